//! The router and its description are one.

use std::collections::BTreeSet;

use super::*;
use crate::openapi;
use crate::source::Source;

/// Pages for people: described by what they show.
const PAGES: &[&str] = &[
    "/",
    "/dashboard.css",
    "/dashboard.js",
    "/docs",
    "/docs/",
    "/docs/{*rest}",
];

/// The router of a service.
fn whole_router() -> Router {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let world = Arc::new(twin::World::load("scinet-16").expect("the world is embedded"));
    let decider = Decider::new(&world, &Source::named("least-loaded"), 1).expect("it decides");
    let address = "127.0.0.1:0".parse().expect("an address");
    let service = runtime
        .block_on(Service::bind(address, vec![decider], Limits::default()))
        .expect("a free port");
    router(Arc::new(service.app))
}

/// Every path of `router`: axum tells them only to whoever debugs.
fn paths(router: &Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let (_, list) = text.split_once("paths: {").expect("axum names the paths");
    let (list, _) = list.split_once("}, ").expect("the list ends");
    let quoted = list.split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn every_route_is_described_and_every_description_has_a_route() {
    let document = openapi::document();
    let described: BTreeSet<String> = openapi::operations(&document)
        .map(|operation| operation.path.to_owned())
        .collect();
    let mut routed = paths(&whole_router());
    assert!(routed.contains("/v1/decisions"), "{routed:?}");
    for page in PAGES {
        routed.remove(*page);
    }
    assert_eq!(
        routed, described,
        "a route is added by `routes!` in `operations`, with #[utoipa::path] on its handler"
    );
}
