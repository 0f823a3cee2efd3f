//! The reader of compose files: what it reads means the same when it is written and read again.

use std::path::Path;

use maestro::compose::{Source, dotenv, parse, split_words};

use super::{line, one_line, text, texts};

/// Reads `data` as a compose file, and its lines as `.env` and as a command.
pub fn check(data: &[u8]) {
    let text = text(data);
    if let Err(why) = dotenv(&text) {
        line(&maestro::error::Error::from(maestro::error::Plain::usage(why)).line());
    }
    text.lines().take(4).for_each(|line| drop(split_words(line)));
    let source = |name| Source {
        name,
        directory: Path::new("/app"),
        variables: &|name| (name == "A").then(|| "a".repeat(100)),
        read: &|_| Ok("E=1\n".to_owned()),
    };
    match parse(&text, &source("c.yml")) {
        Ok(loaded) => {
            let written = loaded.file.to_yaml();
            let again =
                parse(&written, &source("again")).unwrap_or_else(|error| panic!("{error}\nwas written:\n{written}"));
            assert_eq!(again.file, loaded.file, "was written:\n{written}");
        }
        Err(error) => one_line(error),
    }
}

/// Files of the applications, and small ones with what those lack.
pub fn examples() -> Vec<Vec<u8>> {
    let mut all = texts(&[
        "services:\n  web:\n    image: ${A:-nginx}:${B-1}\n    ports: [\"80:80\", \"1-3:1-3/udp\"]\n    command: a \"b c\" 'd'\n",
        "version: '3.9'\nx-a: &a {image: i, environment: {A: 1}}\nservices:\n  b:\n    <<: *a\n    deploy: {replicas: 2}\n",
        "services:\n  a: {image: i, env_file: e, healthcheck: {test: [CMD, x], interval: 1m30s}, mem_limit: 1g}\n",
        "services:\n  a:\n    image: i\n    volumes: [/a:/b:ro, v:/c]\n    networks: {n: {aliases: [x]}}\nvolumes: {v: }\nnetworks: {n: }\n",
    ]);
    all.push(include_bytes!("../../tests/fixtures/compose/social-network.yml").to_vec());
    all.push(include_bytes!("../../tests/fixtures/compose/hotel-reservation.yml").to_vec());
    all
}
