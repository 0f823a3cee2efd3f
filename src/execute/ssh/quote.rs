//! The one place where an argument vector becomes a line for a remote shell.

use super::SshError;

/// Quotes one argument so that a POSIX shell reads it back unchanged.
pub fn quote(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', "'\\''"))
}

/// The line that makes a shell become `argv`: the login shell does not stay behind as its parent, so the exit status
/// and signals are the program's own.
///
/// # Errors
/// [`SshError::Argument`] for an empty vector or an argument with a NUL byte, which no process can receive.
pub fn line(argv: &[String]) -> Result<String, SshError> {
    if argv.is_empty() {
        return Err(SshError::Argument { why: "an empty command".into() });
    }
    if let Some(bad) = argv.iter().find(|argument| argument.contains('\0')) {
        return Err(SshError::Argument { why: format!("`{}` contains a NUL byte", bad.escape_debug()) });
    }
    let words: Vec<String> = argv.iter().map(|argument| quote(argument)).collect();
    Ok(format!("exec {}", words.join(" ")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{line, quote};

    fn through_shell(argv: &[String]) -> Vec<u8> {
        let mut printf = vec!["printf".to_owned(), "%s\\0".to_owned()];
        printf.extend_from_slice(argv);
        Command::new("sh").arg("-c").arg(line(&printf).unwrap()).output().unwrap().stdout
    }

    proptest! {
        #[test]
        fn the_shell_gives_back_what_was_quoted(argv in prop::collection::vec(any::<String>(), 1..5)) {
            let argv: Vec<String> = argv.into_iter().map(|a| a.replace('\0', "")).collect();
            let expected: Vec<u8> = argv.iter().flat_map(|a| a.bytes().chain([0])).collect();
            prop_assert_eq!(through_shell(&argv), expected);
        }

        #[test]
        fn so_does_it_for_what_shells_find_special(text in "[ \t\n'\"\\\\$`!*?~#&;|<>(){}\\[\\]=%^-]{0,12}") {
            let expected: Vec<u8> = text.bytes().chain([0]).collect();
            prop_assert_eq!(through_shell(&[text]), expected);
        }
    }

    #[test]
    fn plain_words_stay_readable() {
        assert_eq!(quote("/var/run/docker.sock"), "/var/run/docker.sock");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("it's"), "'it'\\''s'");
    }

    #[test]
    fn the_command_word_is_never_an_assignment() {
        assert_eq!(line(&["a=b".into(), "c=d".into()]).unwrap(), "exec a=b c=d");
        let done = Command::new("sh").arg("-c").arg("exec a=b c=d").output().unwrap();
        assert_eq!(done.status.code(), Some(127), "a program of that name is looked for");
    }

    #[test]
    fn a_nul_byte_is_refused() {
        assert!(line(&["a\0b".into()]).unwrap_err().to_string().contains("NUL"));
        line(&[]).unwrap_err();
    }
}
