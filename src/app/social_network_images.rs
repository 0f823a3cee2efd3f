//! The images of the social network: the order they are built in, and what became of what their files name.

use super::images::{Bundle, Generator, ImageRecipe, Images, Recipe, Remedy, Sources, Upstream};

const DEPS: &str = "docker/thrift-microservice-deps/cpp";
const FRONT: &str = "docker/openresty-thrift";

const fn image(tag: &'static str, context: &'static str, bundle: Bundle) -> Recipe {
    Recipe::Image(ImageRecipe { tag, context, dockerfile: "Dockerfile", args: &[], bundle })
}

const RECIPES: &[Recipe] = &[
    image("yg397/thrift-microservice-deps:antipode", DEPS, Bundle::Builder),
    Recipe::Image(ImageRecipe {
        tag: "yg397/openresty-thrift:latest",
        context: FRONT,
        dockerfile: "xenial/Dockerfile",
        args: &[],
        bundle: Bundle::Services,
    }),
    image("mongodb-delayed:4.4.6", "docker/mongodb-delayed", Bundle::Services),
    image("mongodb-setup:4.4.6", "docker/mongodb-setup/post-storage", Bundle::Services),
    image("rabbitmq-setup:3.8", "docker/rabbitmq-setup/write-home-timeline", Bundle::Services),
    image("wrk2:antipode", "docker/wrk2", Bundle::Clients),
    image("python-wkld:antipode", "docker/python-wkld", Bundle::Clients),
    image("redis-im:antipode", "docker/redis-im", Bundle::Services),
    Recipe::Generate(Generator {
        what: "the C++ stubs of social_network.thrift",
        image: "yg397/thrift-microservice-deps:antipode",
        mount: "/socialNetwork",
        argv: &["thrift", "-r", "--gen", "cpp", "-o", "/socialNetwork", "/socialNetwork/social_network.thrift"],
        makes: "gen-cpp",
    }),
    image("yg397/social-network-microservices:antipode", ".", Bundle::Services),
];

const BOOST: &[&str] =
    &["https://dl.bintray.com/boostorg/release/", "https://boostorg.jfrog.io/artifactory/main/release/"];

const UPSTREAMS: &[Upstream] = &[
    Upstream {
        what: "jaegertracing/all-in-one:latest",
        place: "docker-compose.yml",
        fate: "from 1.63 on it has no UDP agent, which every service reports its spans to",
        remedy: Remedy::Image { from: "jaegertracing/all-in-one:latest", to: "jaegertracing/all-in-one:1.62.0" },
    },
    Upstream {
        what: "redis (no tag)",
        place: "docker-compose.yml",
        fate: "floats",
        remedy: Remedy::Image { from: "redis:latest", to: "redis:7.2" },
    },
    Upstream {
        what: "memcached (no tag)",
        place: "docker-compose.yml",
        fate: "floats",
        remedy: Remedy::Image { from: "memcached:latest", to: "memcached:1.6" },
    },
    Upstream {
        what: "mrvautin/adminmongo (no tag)",
        place: "docker-compose.yml",
        fate: "abandoned; only `latest` was ever published",
        remedy: Remedy::None,
    },
    Upstream {
        what: "jonathanmace/xtrace-server:latest",
        place: "docker-compose.yml",
        fate: "floats; only `latest` is published",
        remedy: Remedy::None,
    },
    Upstream {
        what: "Boost's downloads",
        place: "docker/thrift-microservice-deps/cpp/Dockerfile",
        fate: "bintray.com closed in 2021, boostorg.jfrog.io at the end of 2024",
        remedy: Remedy::Text { context: DEPS, from: BOOST, to: "https://archives.boost.io/release/" },
    },
    Upstream {
        what: "ubuntu:16.04",
        place: "docker/thrift-microservice-deps/cpp/Dockerfile",
        fate: "out of support since 2021; image and packages are still served",
        remedy: Remedy::None,
    },
    Upstream {
        what: "ubuntu:xenial",
        place: "docker/openresty-thrift/xenial/Dockerfile",
        fate: "out of support since 2021; image and packages are still served",
        remedy: Remedy::None,
    },
    Upstream {
        what: "OpenSSL 1.1.0's downloads",
        place: "docker/openresty-thrift/xenial/Dockerfile",
        fate: "moved below `old` when the series ended",
        remedy: Remedy::Text {
            context: FRONT,
            from: &["https://www.openssl.org/source/openssl-"],
            to: "https://www.openssl.org/source/old/1.1.0/openssl-",
        },
    },
    Upstream {
        what: "PCRE's downloads",
        place: "docker/openresty-thrift/xenial/Dockerfile",
        fate: "ftp.pcre.org closed in 2021",
        remedy: Remedy::Text {
            context: FRONT,
            from: &["https://ftp.pcre.org/pub/pcre/pcre-${RESTY_PCRE_VERSION}"],
            to: "https://downloads.sourceforge.net/project/pcre/pcre/${RESTY_PCRE_VERSION}/pcre-${RESTY_PCRE_VERSION}",
        },
    },
    Upstream {
        what: "xtrace-cpp (head of its git)",
        place: "docker/openresty-thrift/xenial/Dockerfile",
        fate: "floats",
        remedy: Remedy::None,
    },
    Upstream {
        what: "debian:10.6",
        place: "docker/wrk2/Dockerfile",
        fate: "out of support since 2024; its packages have moved to an archive that the image does not look in",
        remedy: Remedy::Base { context: "docker/wrk2", from: "debian:10.6", to: "debian/eol:buster" },
    },
    Upstream {
        what: "wrk2 (head of its git)",
        place: "docker/wrk2/Dockerfile",
        fate: "floats; maestro's own generator is used instead",
        remedy: Remedy::None,
    },
    Upstream {
        what: "python:3.8",
        place: "docker/python-wkld/Dockerfile",
        fate: "out of support since 2024; still served",
        remedy: Remedy::None,
    },
    Upstream {
        what: "redis:latest",
        place: "docker/redis-im/Dockerfile",
        fate: "floats",
        remedy: Remedy::Base { context: "docker/redis-im", from: "redis:latest", to: "redis:7.2" },
    },
    Upstream {
        what: "mongo:4.2",
        place: "docker/mongodb-delayed/Dockerfile",
        fate: "out of support since 2023, and tagged 4.4.6 by its builder; still served",
        remedy: Remedy::None,
    },
];

/// Everything about its images.
pub(super) const IMAGES: Images = Images {
    sources: Some(Sources {
        repository: "https://github.com/Antipode-SOSP23/DeathStarBench.git",
        branch: "antipode-xtrace",
        commit: "6ffa2a51c298a28e71e82577907590dd15051f8f",
        checkout: "deps/DeathStarBench",
        folder: "socialNetwork",
    }),
    recipes: RECIPES,
    upstreams: UPSTREAMS,
};
