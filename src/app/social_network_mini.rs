//! The social network in miniature: roles of this binary around real Redis and RabbitMQ.

use super::{
    App, Broker, ComposeFile, Containers, Images, PostSizes, Protocol, Queue, Replication, Service, Side, Toggle,
    social_network, three_numbers,
};

const SERVICES: &[Service] = &[
    Service::new("nginx-thrift", Side::Origin),
    Service::new("compose-post-service", Side::Origin),
    Service::new("post-storage-service-eu", Side::Origin),
    Service::new("post-storage-redis-eu", Side::Origin),
    Service::new("write-home-timeline-rabbitmq-eu", Side::Origin),
    Service::new("user-timeline-service", Side::Origin),
    Service::new("user-timeline-redis", Side::Origin),
    Service::new("social-graph-service", Side::Origin),
    Service::new("social-graph-redis", Side::Origin),
    Service::new("nginx-thrift-us", Side::Replica),
    Service::new("post-storage-service-us", Side::Replica),
    Service::new("post-storage-redis-us", Side::Replica),
    Service::new("write-home-timeline-rabbitmq-us", Side::Replica),
    Service::new("write-home-timeline-service-us", Side::Replica),
    Service::new("home-timeline-service", Side::Replica),
    Service::new("home-timeline-redis-us", Side::Replica),
    Service::new("jaeger", Side::Neutral),
    Service::setup_job("write-home-timeline-rabbitmq-setup"),
];

/// Posts, their memory with Redis's own bookkeeping, and the length of their documents.
const SIZES: &str = "local cursor, count, memory, length = '0', 0, 0, 0 \
    repeat local page = redis.call('SCAN', cursor, 'MATCH', 'post:*', 'COUNT', 1000) \
    cursor = page[1] \
    for _, key in ipairs(page[2]) do \
    count = count + 1 \
    memory = memory + redis.call('MEMORY', 'USAGE', key) \
    length = length + redis.call('STRLEN', key) end \
    until cursor == '0' \
    return {count, memory, length}";

/// The row of the table: the same routes, doors and traces as the full application's.
pub(super) const APP: App = App {
    name: "socialNetworkMini",
    about: "the social network in miniature, with real Redis and RabbitMQ",
    services: SERVICES,
    toggle: Some(Toggle {
        services: &["write-home-timeline-service-us", "post-storage-service-eu", "post-storage-service-us"],
        variable: "ANTIPODE",
        off: "0",
        on: "1",
    }),
    replication: Some(Replication {
        stores: ("post-storage-redis-eu", "post-storage-redis-us"),
        store_protocol: Protocol::Redis,
        post_sizes: PostSizes {
            service: "post-storage-redis-eu",
            command: &["redis-cli", "--raw", "EVAL", SIZES, "0"],
            parse: three_numbers,
        },
        queue: Queue {
            brokers: &[
                Broker { service: "write-home-timeline-rabbitmq-eu", port: 15672, published: None },
                Broker { service: "write-home-timeline-rabbitmq-us", port: 15672, published: None },
            ],
            login: ("admin", "admin"),
            name: "write-home-timeline",
            until_handled: true,
        },
        ..social_network::REPLICATION
    }),
    images: Images::NONE,
    containers: Containers {
        compose: ComposeFile::Shipped(include_str!("../../assets/socialNetworkMini/docker-compose.yml")),
        setup_check: &["/maestro", "service", "probe", "127.0.0.1:8000"],
        sync_file: Some(("compose-post-service", "/tmp/dockerize.sync")),
        consoles: &[],
        own_image: Some("nginx-thrift"),
    },
    ..social_network::APP
};
