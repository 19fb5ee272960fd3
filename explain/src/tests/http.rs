//! Requests to URLs: two walks, joined by what objects intend.

use super::{mini, schema::conforms};
use crate::explainer::Explainer;
use crate::query::Query;
use crate::render::{self, json, text};
use crate::resolve::QueryError;
use crate::resolve::http::{Action, RuleKind};
use crate::topics::http::{HttpExplanation, Way};
use knet_dataplane::trace::Detail;

/// `shop/web-0` stands for the controller behind NodePort 30080; `api` has the toolbox as its endpoint.
fn files(objects: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut files = mini::files(true);
    for (path, text) in &mut files {
        match path.as_str() {
            "cluster/services.json" => insert(
                text,
                r#"{"metadata":{"namespace":"shop","name":"api"},"spec":{"type":"ClusterIP","clusterIP":"10.96.1.9","clusterIPs":["10.96.1.9"],"ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":9090}]},"status":{}}"#,
            ),
            "cluster/endpointslices.json" => insert(
                text,
                r#"{"metadata":{"namespace":"shop","name":"api-1","labels":{"kubernetes.io/service-name":"api"}},"addressType":"IPv4","endpoints":[{"addresses":["10.244.0.2"],"conditions":{"ready":true}}],"ports":[{"name":"http","port":9090,"protocol":"TCP"}]}"#,
            ),
            "nodes/node-1/netns/toolbox/sockets.txt" => {
                text.push_str("tcp LISTEN 0 128 0.0.0.0:9090 0.0.0.0:* users:((\"api\",pid=9,fd=3))\n");
            }
            "cluster/pods.json" => {
                *text = text.replacen(
                    r#"{"app":"web"}"#,
                    r#"{"app":"web","app.kubernetes.io/name":"traefik"}"#,
                    1,
                );
            }
            _ => {}
        }
    }
    // What is not given is empty, and not unknown.
    let rest = ["gateways", "httproutes"];
    let rest = rest
        .into_iter()
        .filter(|name| objects.iter().all(|(given, _)| given != name));
    for (name, items) in objects.iter().copied().chain(rest.map(|name| (name, ""))) {
        files.push((
            format!("cluster/{name}.json"),
            format!(r#"{{"kind":"List","items":[{items}]}}"#),
        ));
    }
    files
}

fn insert(list: &mut String, item: &str) {
    let end = list.rfind("]}").expect("a list");
    list.insert_str(end, &format!(",{item}"));
}

fn ask(files: Vec<(String, String)>, url: &str, host: Option<&str>) -> Result<HttpExplanation, QueryError> {
    let snapshot = mini::open(files);
    let query = Query {
        src: "ip/192.168.0.50".to_owned(),
        dst: url.to_owned(),
        ..Query::default()
    };
    Explainer::new(&snapshot).http(&query, host, Detail::Decisions)
}

fn page(answer: &HttpExplanation) -> String {
    let style = text::Style {
        width: 160,
        ..text::Style::default()
    };
    text::http(answer, &style)
}

fn ingress(name: &str, rules: &str) -> String {
    format!(
        r#"{{"metadata":{{"namespace":"shop","name":"{name}"}},"spec":{{"ingressClassName":"traefik","rules":[{rules}]}},"status":{{"loadBalancer":{{"ingress":[{{"ip":"192.168.0.11"}}]}}}}}}"#
    )
}

fn rule(host: &str, kind: &str, path: &str, service: &str) -> String {
    format!(
        r#"{{"host":"{host}","http":{{"paths":[{{"path":"{path}","pathType":"{kind}","backend":{{"service":{{"name":"{service}","port":{{"number":80}}}}}}}}]}}}}"#
    )
}

const URL: &str = "http://shop.example.com:30080/cart/1";

fn services(answer: &HttpExplanation) -> Vec<String> {
    let rules = answer.decision.rules.iter();
    rules
        .map(|rule| match &rule.action {
            Action::Backends(all) => all[0].service.name.clone(),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn two_traces_are_joined_by_the_rule_that_the_objects_intend() {
    let object = ingress("shop", &rule("shop.example.com", "Prefix", "/cart", "api"));
    let answer = ask(files(&[("ingresses", &object)]), URL, None).expect("it resolves");
    let page = page(&answer);
    assert_eq!(answer.exit_code(), 0, "{page}");
    assert_eq!(answer.client.dst, crate::resolve::Target::Address);
    assert_eq!(answer.controllers.len(), 1);
    assert_eq!(
        answer.controllers[0].pod.as_ref().map(ToString::to_string).as_deref(),
        Some("shop/web-0")
    );
    assert_eq!(services(&answer), ["api"]);
    let [leg] = answer.legs.as_slice() else {
        panic!("{page}")
    };
    // Traefik connects to endpoints, so no rule of kube-proxy is asked.
    assert_eq!(
        leg.endpoint.map(|(a, p)| (a.to_string(), p)),
        Some(("10.244.0.2".to_owned(), 9090))
    );
    assert!(
        page.starts_with("REPLY: http://shop.example.com:30080/cart/1 comes to pod shop/web-0"),
        "{page}"
    );
    assert!(page.contains("intent, no fact of a kernel"), "{page}");
    assert!(page.contains("ingress/shop/shop"), "{page}");
    assert!(page.contains("cluster/ingresses.json:1"), "{page}");
    let first = page.find("from the client").expect("the first walk");
    let second = page.find("endpoint 10.244.0.2:9090").expect("the second walk");
    assert!(first < second, "{page}");
    let document = json::http(&answer, false);
    let schema = render::schema::http();
    conforms(&schema, &schema, &document, "$").expect("it conforms");
    assert_eq!(document["outcome"], "delivered");
    assert_eq!(document["client"]["schema"], "knet.trace/v1");
    assert_eq!(document["backends"][0]["trace"]["client_sees"], "reply");
}

#[test]
fn a_backend_that_fails_is_the_second_walks_verdict() {
    let object = ingress("shop", &rule("shop.example.com", "Prefix", "/", "void"));
    let answer = ask(files(&[("ingresses", &object)]), URL, None).expect("it resolves");
    assert_eq!(answer.exit_code(), 1, "{}", page(&answer));
    assert!(matches!(answer.legs[0].way, Way::Walked(_) | Way::NoEndpoints));
    let object = ingress("shop", &rule("shop.example.com", "Prefix", "/", "nobody"));
    let answer = ask(files(&[("ingresses", &object)]), URL, None).expect("it resolves");
    let text = page(&answer);
    assert_eq!(answer.exit_code(), 1, "{text}");
    assert!(text.contains("nobody"), "{text}");
}

#[test]
fn the_longest_path_wins_and_exact_before_prefix() {
    let rules = [
        rule("shop.example.com", "Prefix", "/", "void"),
        rule("shop.example.com", "Prefix", "/cart", "db"),
        rule("shop.example.com", "Prefix", "/cart/1", "two"),
        rule("shop.example.com", "Exact", "/cart/1", "api"),
        rule("*.example.com", "Exact", "/cart/1", "alias"),
    ]
    .join(",");
    let answer = ask(files(&[("ingresses", &ingress("shop", &rules))]), URL, None).expect("it resolves");
    assert_eq!(services(&answer), ["api"]);
}

#[test]
fn a_wildcard_comes_after_a_precise_host_and_the_default_backend_last() {
    let object = ingress("shop", &rule("*.example.com", "Prefix", "/", "api"));
    let answer = ask(files(&[("ingresses", &object)]), URL, None).expect("it resolves");
    assert_eq!(services(&answer), ["api"]);
    let other = r#"{"metadata":{"namespace":"shop","name":"all"},"spec":{"ingressClassName":"traefik","defaultBackend":{"service":{"name":"db","port":{"number":80}}}},"status":{"loadBalancer":{"ingress":[{"ip":"192.168.0.11"}]}}}"#;
    let both = format!(
        "{},{other}",
        ingress("shop", &rule("else.example.com", "Prefix", "/", "api"))
    );
    let answer = ask(
        files(&[("ingresses", &both)]),
        "http://192.168.0.11:30080/",
        Some("shop.example.com"),
    );
    let answer = answer.expect("it resolves");
    assert_eq!(services(&answer), ["db"]);
    assert_eq!(answer.decision.rules[0].path, None);
}

#[test]
fn what_the_specification_leaves_open_stays_open_with_its_text() {
    let rules = [
        rule("shop.example.com", "ImplementationSpecific", "/cart/*", "void"),
        rule("shop.example.com", "Prefix", "/", "api"),
    ]
    .join(",");
    let answer = ask(files(&[("ingresses", &ingress("shop", &rules))]), URL, None).expect("it resolves");
    let text = page(&answer);
    assert_eq!(services(&answer), ["void", "api"], "{text}");
    assert_eq!(answer.exit_code(), 3, "{text}");
    assert!(
        text.contains("how path /cart/* is compared is up to the implementation"),
        "{text}"
    );
}

#[test]
fn no_rule_is_the_controllers_own_answer_and_not_a_guess() {
    let object = ingress("shop", &rule("shop.example.com", "Exact", "/other", "api"));
    let answer = ask(files(&[("ingresses", &object)]), URL, None).expect("it resolves");
    let text = page(&answer);
    assert_eq!(answer.exit_code(), 3, "{text}");
    assert!(answer.legs.is_empty());
    assert!(text.contains("no Ingress and no HTTPRoute takes it"), "{text}");
}

#[test]
fn objects_that_nobody_captured_may_say_otherwise() {
    let object = ingress("shop", &rule("shop.example.com", "Prefix", "/cart", "api"));
    let mut files = files(&[("ingresses", &object)]);
    files.retain(|(path, _)| path != "cluster/httproutes.json");
    let answer = ask(files, URL, None).expect("it resolves");
    let text = page(&answer);
    assert_eq!(answer.exit_code(), 3, "{text}");
    assert!(text.starts_with("CANNOT TELL"), "{text}");
    assert!(text.contains("cluster/httproutes.json was not captured"), "{text}");
}

#[test]
fn two_objects_with_one_claim_leave_both_open() {
    let both = [
        ingress("a", &rule("shop.example.com", "Prefix", "/", "api")),
        ingress("b", &rule("shop.example.com", "Prefix", "/", "void")),
    ]
    .join(",");
    let answer = ask(files(&[("ingresses", &both)]), URL, None).expect("it resolves");
    assert_eq!(services(&answer), ["api", "void"]);
    assert!(!answer.decision.is_certain());
    assert_eq!(answer.exit_code(), 3);
}

#[test]
fn a_host_that_nobody_names_needs_its_address() {
    let error = ask(files(&[("ingresses", "")]), URL, None).expect_err("nobody says where it is");
    assert_eq!(error.code(), "no-front");
    assert!(
        error.hints().iter().any(|h| h.contains("--host shop.example.com")),
        "{:?}",
        error.hints()
    );
    let error = ask(mini::files(true), "ftp://shop.example.com/", None).expect_err("no URL of HTTP");
    assert_eq!(error.code(), "bad-form");
}

const GATEWAY: &str = r#"{"metadata":{"namespace":"infra","name":"edge"},"spec":{"gatewayClassName":"x","listeners":[{"name":"web","port":30080,"protocol":"HTTP","hostname":"*.example.com"},{"name":"tls","port":443,"protocol":"HTTPS"}]},"status":{"addresses":[{"type":"IPAddress","value":"192.168.0.11"}]}}"#;

fn route(name: &str, hostname: &str, rules: &str, accepted: &str) -> String {
    format!(
        r#"{{"metadata":{{"namespace":"shop","name":"{name}"}},"spec":{{"parentRefs":[{{"name":"edge","namespace":"infra"}}],"hostnames":["{hostname}"],"rules":[{rules}]}},"status":{{"parents":[{{"parentRef":{{"name":"edge","namespace":"infra"}},"conditions":[{{"type":"Accepted","status":"{accepted}"}}]}}]}}}}"#
    )
}

#[test]
fn a_route_of_a_gateway_splits_by_weight() {
    let rules = r#"{"matches":[{"path":{"type":"PathPrefix","value":"/cart"}}],"backendRefs":[{"name":"api","port":80,"weight":3},{"name":"void","port":80},{"name":"gone","port":80,"weight":0}]}"#;
    let objects = route("shop", "*.example.com", rules, "True");
    let answer = ask(
        files(&[("gateways", GATEWAY), ("httproutes", &objects), ("ingresses", "")]),
        URL,
        None,
    );
    let answer = answer.expect("it resolves");
    let text = page(&answer);
    assert!(answer.decision.is_certain(), "{text}");
    assert_eq!(answer.decision.rules[0].kind, RuleKind::HttpRoute);
    assert_eq!(answer.decision.rules[0].by.as_deref(), Some("infra/edge"));
    let shares: Vec<String> = answer.legs.iter().map(|l| l.share.to_string()).collect();
    assert_eq!(shares, ["3/4", "1/4"], "{text}");
    assert_eq!(answer.exit_code(), 1, "{text}");
    assert!(text.contains("svc/shop/api:80 (3 of 4)"), "{text}");
}

#[test]
fn headers_stay_open_and_a_refused_route_takes_nothing() {
    let rules = r#"{"matches":[{"headers":[{"name":"x-canary","value":"1"}]}],"backendRefs":[{"name":"void","port":80}]},{"backendRefs":[{"name":"api","port":80}]}"#;
    let objects = [
        route("shop", "shop.example.com", rules, "True"),
        route(
            "refused",
            "shop.example.com",
            r#"{"backendRefs":[{"name":"db","port":80}]}"#,
            "False",
        ),
    ]
    .join(",");
    let answer = ask(
        files(&[("gateways", GATEWAY), ("httproutes", &objects), ("ingresses", "")]),
        URL,
        None,
    );
    let answer = answer.expect("it resolves");
    assert_eq!(services(&answer), ["void", "api"]);
    assert_eq!(answer.decision.rules[0].open, ["only with header x-canary: 1"]);
    assert_eq!(answer.exit_code(), 3);
    // Another port is another listener, which takes no plain HTTP.
    let answer = ask(
        files(&[("gateways", GATEWAY), ("httproutes", &objects), ("ingresses", "")]),
        "http://192.168.0.11:443/",
        Some("shop.example.com"),
    );
    assert!(answer.expect("it resolves").decision.rules.is_empty());
}
