//! DeathStarBench's socialNetwork with Antipode (branch `antipode-xtrace` of the fork).

use super::{
    App, Broker, ComposeFile, Console, Containers, Door, PostSizes, Protocol, Queue, Service, Side, Toggle,
    social_network_images, three_numbers,
};
use crate::trace::{Place, Shape};

const fn service(name: &'static str, side: Side) -> Service {
    Service { name, side, setup: false }
}

const fn setup_job(name: &'static str) -> Service {
    Service { name, side: Side::Neutral, setup: true }
}

const SERVICES: &[Service] = &[
    service("social-graph-service", Side::Origin),
    service("social-graph-redis", Side::Origin),
    service("social-graph-mongodb", Side::Origin),
    service("write-home-timeline-service-eu", Side::Origin),
    service("write-home-timeline-rabbitmq-eu", Side::Origin),
    service("home-timeline-redis-eu", Side::Origin),
    service("write-home-timeline-service-us", Side::Replica),
    service("write-home-timeline-rabbitmq-us", Side::Replica),
    service("home-timeline-redis-us", Side::Replica),
    service("home-timeline-service", Side::Replica),
    service("post-storage-service-eu", Side::Origin),
    service("post-storage-memcached-eu", Side::Origin),
    service("post-storage-mongodb-eu", Side::Origin),
    service("post-storage-service-us", Side::Replica),
    service("post-storage-memcached-us", Side::Replica),
    service("post-storage-mongodb-us", Side::Replica),
    service("compose-post-redis", Side::Origin),
    service("compose-post-service", Side::Origin),
    service("unique-id-service", Side::Origin),
    service("text-service", Side::Origin),
    service("user-timeline-service", Side::Origin),
    service("user-timeline-redis", Side::Origin),
    service("user-timeline-mongodb", Side::Origin),
    service("url-shorten-service", Side::Origin),
    service("url-shorten-memcached", Side::Origin),
    service("url-shorten-mongodb", Side::Origin),
    service("user-mention-service", Side::Origin),
    service("user-service", Side::Origin),
    service("user-memcached", Side::Origin),
    service("user-mongodb", Side::Origin),
    service("media-service", Side::Origin),
    service("media-memcached", Side::Origin),
    service("media-mongodb", Side::Origin),
    service("media-frontend", Side::Origin),
    service("antipode-oracle", Side::Neutral),
    service("nginx-thrift", Side::Origin),
    service("nginx-thrift-us", Side::Replica),
    service("jaeger", Side::Neutral),
    service("xtrace-server", Side::Neutral),
    service("mongodb-admin", Side::Neutral),
    setup_job("post-storage-mongodb-setup"),
    setup_job("write-home-timeline-rabbitmq-setup"),
];

const fn fanout(tag: &'static str) -> Place {
    Place { operation: "FanoutHomeTimelines", tag }
}

pub(super) const SHAPE: Shape = Shape {
    start: "/wrk2-api/post/compose",
    post: Place { operation: "_ComposeAndUpload", tag: "composepost_id" },
    written: Place { operation: "StorePost", tag: "poststorage_post_written_ts" },
    queued: Place { operation: "_UploadHomeTimelineHelper", tag: "wht_start_queue_ts" },
    received: fanout("wht_start_worker_ts"),
    read: fanout("poststorage_read_notification_ts"),
    barrier: fanout("wht_antipode_duration"),
    found: fanout("consistency_bool"),
    replica_read: fanout("consistency_mongoread_duration"),
    notification_size: fanout("notification_size_bytes"),
};

/// The row of the table.
pub(super) const APP: App = App {
    name: "socialNetwork",
    about: "DeathStarBench's social network with Antipode's lineage and barrier",
    services: SERVICES,
    toggle: Toggle {
        services: &[
            "write-home-timeline-service-eu",
            "write-home-timeline-service-us",
            "post-storage-service-eu",
            "post-storage-service-us",
        ],
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
    stores: ("post-storage-mongodb-eu", "post-storage-mongodb-us"),
    store_protocol: Protocol::Mongo,
    traced_service: "compose-post-service",
    written_service: "post-storage-service-eu",
    notified_service: "write-home-timeline-service-us",
    images: social_network_images::IMAGES,
    shape: SHAPE,
    queue: Queue {
        brokers: &[
            Broker { service: "write-home-timeline-rabbitmq-eu", port: 15672, published: Some(15672) },
            Broker { service: "write-home-timeline-rabbitmq-us", port: 15672, published: Some(15673) },
        ],
        login: ("admin", "admin"),
        name: "write-home-timeline",
        until_handled: false,
    },
    containers: Containers {
        compose: ComposeFile::InTree("docker-compose.yml"),
        setup_check: &["dockerize", "-wait", "tcp://localhost:8000", "-timeout", "1s"],
        sync_file: Some(("compose-post-service", "/tmp/dockerize.sync")),
        post_sizes: PostSizes {
            service: "post-storage-mongodb-eu",
            command: &[
                "mongo",
                "--quiet",
                "post",
                "--eval",
                "s = db.post.stats(); print(s.count); print(db.post.totalSize()); print(s.size)",
            ],
            parse: three_numbers,
        },
        consoles: &[
            Console {
                title: "RabbitMQ EU",
                service: "write-home-timeline-rabbitmq-eu",
                port: 15672,
                login: Some(("admin", "admin")),
            },
            Console {
                title: "RabbitMQ US",
                service: "write-home-timeline-rabbitmq-us",
                port: 15672,
                login: Some(("admin", "admin")),
            },
            Console { title: "X-Trace", service: "xtrace-server", port: 4080, login: None },
            Console { title: "adminMongo", service: "mongodb-admin", port: 1234, login: None },
        ],
        own_image: None,
    },
};
