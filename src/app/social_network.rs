//! DeathStarBench's socialNetwork with Antipode (branch `antipode-xtrace` of the fork).

use super::{
    App, Broker, Canary, ComposeFile, Console, Containers, Door, PostSizes, Protocol, Queue, Replication, Service,
    Side, Toggle, social_network_images, three_numbers,
};
use crate::trace::{Place, Shape};

const SERVICES: &[Service] = &[
    Service::new("social-graph-service", Side::Origin),
    Service::new("social-graph-redis", Side::Origin),
    Service::new("social-graph-mongodb", Side::Origin),
    Service::new("write-home-timeline-service-eu", Side::Origin),
    Service::new("write-home-timeline-rabbitmq-eu", Side::Origin),
    Service::new("home-timeline-redis-eu", Side::Origin),
    Service::new("write-home-timeline-service-us", Side::Replica),
    Service::new("write-home-timeline-rabbitmq-us", Side::Replica),
    Service::new("home-timeline-redis-us", Side::Replica),
    Service::new("home-timeline-service", Side::Replica),
    Service::new("post-storage-service-eu", Side::Origin),
    Service::new("post-storage-memcached-eu", Side::Origin),
    Service::new("post-storage-mongodb-eu", Side::Origin),
    Service::new("post-storage-service-us", Side::Replica),
    Service::new("post-storage-memcached-us", Side::Replica),
    Service::new("post-storage-mongodb-us", Side::Replica),
    Service::new("compose-post-redis", Side::Origin),
    Service::new("compose-post-service", Side::Origin),
    Service::new("unique-id-service", Side::Origin),
    Service::new("text-service", Side::Origin),
    Service::new("user-timeline-service", Side::Origin),
    Service::new("user-timeline-redis", Side::Origin),
    Service::new("user-timeline-mongodb", Side::Origin),
    Service::new("url-shorten-service", Side::Origin),
    Service::new("url-shorten-memcached", Side::Origin),
    Service::new("url-shorten-mongodb", Side::Origin),
    Service::new("user-mention-service", Side::Origin),
    Service::new("user-service", Side::Origin),
    Service::new("user-memcached", Side::Origin),
    Service::new("user-mongodb", Side::Origin),
    Service::new("media-service", Side::Origin),
    Service::new("media-memcached", Side::Origin),
    Service::new("media-mongodb", Side::Origin),
    Service::new("media-frontend", Side::Origin),
    Service::new("antipode-oracle", Side::Neutral),
    Service::new("nginx-thrift", Side::Origin),
    Service::new("nginx-thrift-us", Side::Replica),
    Service::new("jaeger", Side::Neutral),
    Service::new("xtrace-server", Side::Neutral),
    Service::new("mongodb-admin", Side::Neutral),
    Service::setup_job("post-storage-mongodb-setup"),
    Service::setup_job("write-home-timeline-rabbitmq-setup"),
];

const fn fanout(tag: &'static str) -> Place {
    Place { operation: "FanoutHomeTimelines", tag }
}

const SHAPE: Shape = Shape {
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

/// Where its posts are, and which of its spans say when they were written and read.
pub(super) const REPLICATION: Replication = Replication {
    stores: ("post-storage-mongodb-eu", "post-storage-mongodb-us"),
    store_protocol: Protocol::Mongo,
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
    traced_service: "compose-post-service",
    written_service: "post-storage-service-eu",
    notified_service: "write-home-timeline-service-us",
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
};

/// The row of the table.
pub(super) const APP: App = App {
    name: "socialNetwork",
    about: "DeathStarBench's social network with Antipode's lineage and barrier",
    services: SERVICES,
    toggle: Some(Toggle {
        services: &[
            "write-home-timeline-service-eu",
            "write-home-timeline-service-us",
            "post-storage-service-eu",
            "post-storage-service-us",
        ],
        variable: "ANTIPODE",
        off: "0",
        on: "1",
    }),
    origin: Door { service: "nginx-thrift", port: 8080 },
    replica: Some(Door { service: "nginx-thrift-us", port: 8082 }),
    jaeger: Door { service: "jaeger", port: 16686 },
    endpoints: super::social_endpoints::ENDPOINTS,
    probe: Some(&super::social_endpoints::PROBE),
    graph_file: Some("datasets/social-graph/socfb-Reed98/socfb-Reed98.mtx"),
    replication: Some(REPLICATION),
    images: social_network_images::IMAGES,
    canary: Canary::Post,
    miniature: true,
    containers: Containers {
        compose: ComposeFile::InTree("docker-compose.yml"),
        setup_check: &["dockerize", "-wait", "tcp://localhost:8000", "-timeout", "1s"],
        sync_file: Some(("compose-post-service", "/tmp/dockerize.sync")),
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
