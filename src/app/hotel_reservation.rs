//! DeathStarBench's hotelReservation: one front end, services in Go, nothing replicated. Its load is a mix of searches,
//! recommendations and a few logins and reservations.

use std::io::Write;

use rand::RngExt;

use super::graph::Graph;
use super::images::{Bundle, ImageRecipe, Images, Recipe, Remedy, Sources, Upstream};
use super::{
    App, Call, Canary, ComposeFile, Console, Containers, Door, Draws, Endpoint, EndpointKind, Method, Service, Side,
    social_network,
};

const SERVICES: &[Service] = &[
    neutral("consul"),
    neutral("frontend"),
    neutral("profile"),
    neutral("search"),
    neutral("geo"),
    neutral("rate"),
    neutral("recommendation"),
    neutral("user"),
    neutral("reservation"),
    neutral("jaeger"),
    neutral("memcached-rate"),
    neutral("memcached-profile"),
    neutral("memcached-reserve"),
    neutral("mongodb-geo"),
    neutral("mongodb-profile"),
    neutral("mongodb-rate"),
    neutral("mongodb-recommendation"),
    neutral("mongodb-reservation"),
    neutral("mongodb-user"),
];

const fn neutral(name: &'static str) -> Service {
    Service::new(name, Side::Neutral)
}

const fn call(method: Method, path: &'static str, fill: fn(&mut Draws, &Graph, u64, &mut Vec<u8>) -> u64) -> Call {
    Call { side: Side::Origin, method, path, fill }
}

const SEARCH: Call = call(Method::Get, "/hotels", search);
const RECOMMEND: Call = call(Method::Get, "/recommendations", recommend);
const LOGIN: Call = call(Method::Get, "/user", login);
const RESERVE: Call = call(Method::PostQuery, "/reservation", reserve);

const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        name: "mixed",
        about: "60 % searches, 39 % recommendations, 0.5 % logins, 0.5 % reservations",
        kind: EndpointKind::Mix(&[(600, SEARCH), (390, RECOMMEND), (5, LOGIN), (5, RESERVE)]),
    },
    Endpoint {
        name: "search",
        about: "hotels near a random place for random nights",
        kind: EndpointKind::Load { first: SEARCH, then: None },
    },
    Endpoint {
        name: "recommend",
        about: "the best hotels by distance, rate or price",
        kind: EndpointKind::Load { first: RECOMMEND, then: None },
    },
    Endpoint {
        name: "login",
        about: "a random user's name and password",
        kind: EndpointKind::Load { first: LOGIN, then: None },
    },
    Endpoint {
        name: "reserve",
        about: "a room in a random hotel for a random user",
        kind: EndpointKind::Load { first: RESERVE, then: None },
    },
];

/// Users are `Cornell_0` to `Cornell_500`, hotels 1 to 80: what the services put into their stores when they start.
const LAST_USER: u32 = 500;
const HOTELS: u32 = 80;

/// Nights begin in April 2015, when the data's inventory has rooms.
fn nights(draws: &mut Draws, last: u32, out: &mut Vec<u8>) {
    let begin = draws.random_range(9..=23_u32);
    let end = draws.random_range(begin + 1..=last.max(begin + 1));
    // Writing into memory cannot fail.
    write!(out, "inDate=2015-04-{begin:02}&outDate=2015-04-{end:02}").ok();
}

/// A place around San Francisco, where the hotels are.
fn place(draws: &mut Draws, out: &mut Vec<u8>) {
    let latitude = 38.0235 + (f64::from(draws.random_range(0..=481_u32)) - 240.5) / 1000.0;
    let longitude = -122.095 + (f64::from(draws.random_range(0..=325_u32)) - 157.0) / 1000.0;
    write!(out, "&lat={latitude:.4}&lon={longitude:.4}").ok();
}

/// A user's name, and the password: the user's number ten times.
fn credentials(draws: &mut Draws) -> (String, String) {
    let user = draws.random_range(0..=LAST_USER).to_string();
    (format!("Cornell_{user}"), user.repeat(10))
}

fn search(draws: &mut Draws, _graph: &Graph, _key: u64, out: &mut Vec<u8>) -> u64 {
    nights(draws, 24, out);
    place(draws, out);
    0
}

fn recommend(draws: &mut Draws, _graph: &Graph, _key: u64, out: &mut Vec<u8>) -> u64 {
    let by = match draws.random_range(0..100_u32) {
        0..33 => "dis",
        33..66 => "rate",
        _ => "price",
    };
    write!(out, "require={by}").ok();
    place(draws, out);
    0
}

fn login(draws: &mut Draws, _graph: &Graph, _key: u64, out: &mut Vec<u8>) -> u64 {
    let (user, password) = credentials(draws);
    write!(out, "username={user}&password={password}").ok();
    0
}

fn reserve(draws: &mut Draws, _graph: &Graph, _key: u64, out: &mut Vec<u8>) -> u64 {
    nights(draws, 28, out);
    place(draws, out);
    let hotel = draws.random_range(1..=HOTELS);
    let (user, password) = credentials(draws);
    write!(out, "&hotelId={hotel}&customerName={user}&username={user}&password={password}&number=1").ok();
    0
}

/// Every service of the app runs from the one Dockerfile, under a name of its own.
const fn image(tag: &'static str) -> Recipe {
    let (context, dockerfile, bundle) = (".", "Dockerfile", Bundle::Services);
    Recipe::Image(ImageRecipe { tag, context, dockerfile, args: &[], bundle })
}

const IMAGES: Images = Images {
    // The same checkout as the social network's, another folder of it.
    sources: match social_network::APP.images.sources {
        Some(sources) => Some(Sources { folder: "hotelReservation", ..sources }),
        None => None,
    },
    recipes: &[
        image("hotel_reserv_frontend_single_node"),
        image("hotel_reserv_profile_single_node"),
        image("hotel_reserv_search_single_node"),
        image("hotel_reserv_geo_single_node"),
        image("hotel_reserv_rate_single_node"),
        image("hotel_reserv_recommend_single_node"),
        image("hotel_reserv_user_single_node"),
        image("hotel_reserv_rsv_single_node"),
    ],
    upstreams: &[
        Upstream {
            what: "consul:latest",
            place: "docker-compose.yml",
            fate: "no longer published under this name",
            remedy: Remedy::Image { from: "consul:latest", to: "hashicorp/consul:1.15" },
        },
        Upstream {
            what: "jaegertracing/all-in-one:latest",
            place: "docker-compose.yml",
            fate: "from 1.63 on it has no UDP agent, which every service reports its spans to",
            remedy: Remedy::Image { from: "jaegertracing/all-in-one:latest", to: "jaegertracing/all-in-one:1.62.0" },
        },
        Upstream {
            what: "memcached (no tag)",
            place: "docker-compose.yml",
            fate: "floats",
            remedy: Remedy::Image { from: "memcached:latest", to: "memcached:1.6" },
        },
        Upstream {
            what: "mongo (no tag)",
            place: "docker-compose.yml",
            fate: "floats; the driver of the services speaks the protocol of 4.4",
            remedy: Remedy::Image { from: "mongo:latest", to: "mongo:4.4.6" },
        },
        Upstream {
            what: "golang:1.16 and modules without versions",
            place: "Dockerfile",
            fate: "out of support since 2022; modules that ask for a newer Go may end the build",
            remedy: Remedy::None,
        },
    ],
};

/// The row of the table.
pub(super) const APP: App = App {
    name: "hotelReservation",
    about: "DeathStarBench's hotel reservation: latency only, nothing is replicated",
    services: SERVICES,
    toggle: None,
    origin: Door { service: "frontend", port: 5000 },
    replica: None,
    jaeger: Door { service: "jaeger", port: 16686 },
    endpoints: ENDPOINTS,
    probe: None,
    graph_file: None,
    replication: None,
    images: IMAGES,
    canary: Canary::Reads(&[
        "/hotels?inDate=2015-04-09&outDate=2015-04-10&lat=38.0235&lon=-122.095",
        "/recommendations?require=rate&lat=38.0235&lon=-122.095",
        "/user?username=Cornell_0&password=0000000000",
    ]),
    miniature: false,
    containers: Containers {
        compose: ComposeFile::InTree("docker-compose.yml"),
        setup_check: &[],
        sync_file: None,
        consoles: &[Console { title: "Consul", service: "consul", port: 8500, login: None }],
        own_image: None,
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn filled(call: &Call, seed: u64) -> Vec<(String, String)> {
        let mut out = Vec::new();
        (call.fill)(&mut Draws::seed_from_u64(seed), &Graph::synthetic(), 0, &mut out);
        let text = String::from_utf8(out).unwrap();
        text.split('&').map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn every_request_has_all_its_parameters() {
        let names = |call| filled(call, 1).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&SEARCH), ["inDate", "outDate", "lat", "lon"]);
        assert_eq!(names(&RECOMMEND), ["require", "lat", "lon"]);
        assert_eq!(names(&LOGIN), ["username", "password"]);
        let expected = ["inDate", "outDate", "lat", "lon", "hotelId", "customerName", "username", "password", "number"];
        assert_eq!(names(&RESERVE), expected);
    }

    #[test]
    fn nights_end_after_they_begin_and_places_are_where_the_hotels_are() {
        for seed in 0..500 {
            for call in [&SEARCH, &RESERVE] {
                let fields = filled(call, seed);
                assert!(fields[0].1 < fields[1].1 && fields[1].1.len() == 10, "{fields:?}");
                let (lat, lon): (f64, f64) = (fields[2].1.parse().unwrap(), fields[3].1.parse().unwrap());
                assert!((37.78..=38.27).contains(&lat) && (-122.26..=-121.92).contains(&lon), "{lat} {lon}");
            }
            let login = filled(&LOGIN, seed);
            let id = login[0].1.strip_prefix("Cornell_").unwrap();
            assert!(id.parse::<u32>().unwrap() <= LAST_USER && login[1].1 == id.repeat(10));
        }
    }
}
