//! The social network in miniature: roles of this binary around real Redis and RabbitMQ.

use super::social_network::SHAPE;
use super::{
    App, Broker, ComposeFile, Containers, Door, Images, PostSizes, Protocol, Queue, Service, Side, Toggle,
    three_numbers,
};

const fn service(name: &'static str, side: Side) -> Service {
    Service { name, side, setup: false }
}

const SERVICES: &[Service] = &[
    service("nginx-thrift", Side::Origin),
    service("compose-post-service", Side::Origin),
    service("post-storage-service-eu", Side::Origin),
    service("post-storage-redis-eu", Side::Origin),
    service("write-home-timeline-rabbitmq-eu", Side::Origin),
    service("user-timeline-service", Side::Origin),
    service("user-timeline-redis", Side::Origin),
    service("social-graph-service", Side::Origin),
    service("social-graph-redis", Side::Origin),
    service("nginx-thrift-us", Side::Replica),
    service("post-storage-service-us", Side::Replica),
    service("post-storage-redis-us", Side::Replica),
    service("write-home-timeline-rabbitmq-us", Side::Replica),
    service("write-home-timeline-service-us", Side::Replica),
    service("home-timeline-service", Side::Replica),
    service("home-timeline-redis-us", Side::Replica),
    service("jaeger", Side::Neutral),
    Service { name: "write-home-timeline-rabbitmq-setup", side: Side::Neutral, setup: true },
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

/// The row of the table.
pub(super) const APP: App = App {
    name: "socialNetworkMini",
    about: "the social network in miniature, with real Redis and RabbitMQ",
    services: SERVICES,
    toggle: Toggle {
        services: &["write-home-timeline-service-us", "post-storage-service-eu", "post-storage-service-us"],
        variable: "ANTIPODE",
        off: "0",
        on: "1",
    },
    origin: Door { service: "nginx-thrift", port: 8080 },
    replica: Door { service: "nginx-thrift-us", port: 8082 },
    jaeger: Door { service: "jaeger", port: 16686 },
    endpoints: super::social_endpoints::ENDPOINTS,
    probe: Some(&super::social_endpoints::PROBE),
    graph_file: "datasets/social-graph/socfb-Reed98/socfb-Reed98.mtx",
    stores: ("post-storage-redis-eu", "post-storage-redis-us"),
    store_protocol: Protocol::Redis,
    traced_service: "compose-post-service",
    written_service: "post-storage-service-eu",
    notified_service: "write-home-timeline-service-us",
    images: Images::NONE,
    shape: SHAPE,
    queue: Queue {
        brokers: &[
            Broker { service: "write-home-timeline-rabbitmq-eu", port: 15672, published: None },
            Broker { service: "write-home-timeline-rabbitmq-us", port: 15672, published: None },
        ],
        login: ("admin", "admin"),
        name: "write-home-timeline",
        until_handled: true,
    },
    containers: Containers {
        compose: ComposeFile::Shipped(include_str!("../../assets/socialNetworkMini/docker-compose.yml")),
        setup_check: &["/maestro", "service", "probe", "127.0.0.1:8000"],
        sync_file: Some(("compose-post-service", "/tmp/dockerize.sync")),
        post_sizes: PostSizes {
            service: "post-storage-redis-eu",
            command: &["redis-cli", "--raw", "EVAL", SIZES, "0"],
            parse: three_numbers,
        },
        consoles: &[],
        own_image: Some("nginx-thrift"),
    },
};
