//! Query parameters: booleans, pages, filters.

use kwsk_tests::{TestApp, echo};
use serde_json::json;

#[tokio::test]
async fn booleans() {
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    for (value, code) in [
        ("true", true),
        ("YES", true),
        ("on", true),
        ("1", true),
        ("false", false),
        ("no", false),
        ("Off", false),
        ("0", false),
    ] {
        let got = app.guest.get(&format!("actions/a?code={value}")).await.good();
        assert_eq!(got["exec"].get("code").is_some(), code, "{value}");
    }
    for (method, path, name) in [
        ("GET", "actions/a?code=", "code"),
        ("GET", "actions?count=", "count"),
        ("PUT", "actions/b?overwrite=", "overwrite"),
        ("PUT", "packages/b?overwrite=", "overwrite"),
        ("PUT", "triggers/b?overwrite=", "overwrite"),
        ("PUT", "rules/b?overwrite=", "overwrite"),
        ("POST", "actions/a?blocking=", "blocking"),
        ("POST", "actions/a?result=", "result"),
        ("DELETE", "packages/b?force=", "force"),
        ("GET", "activations?docs=", "docs"),
    ] {
        let request = app.guest.request(method, &format!("{path}maybe"));
        let request = if method == "PUT" { request.json(&json!({})) } else { request };
        let why =
            format!("The query parameter '{name}' was malformed:\n'maybe' is not a valid Boolean value");
        app.guest.send(request).await.refused(400, &why);
    }
}

#[tokio::test]
async fn pages() {
    let app = TestApp::start();
    for n in 0..35 {
        app.guest.put(&format!("triggers/t{n:02}"), &json!({})).await.good();
    }
    let names = async |query: &str| -> Vec<String> {
        let list = app.guest.get(&format!("triggers{query}")).await.good();
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("").await.len(), 30);
    assert_eq!(names("/").await.len(), 30);
    assert_eq!(names("?limit=0").await.len(), 35);
    assert_eq!(names("?limit=200").await.len(), 35);
    assert_eq!(names("?limit=2").await, ["t34", "t33"]);
    assert_eq!(names("?limit=2&skip=2").await, ["t32", "t31"]);
    assert_eq!(names("?skip=34").await, ["t00"]);
    assert_eq!(names("?skip=1000").await.len(), 0);
    // What was updated last comes first.
    app.guest.put("triggers/t03?overwrite=true", &json!({})).await.good();
    assert_eq!(names("?limit=2").await, ["t03", "t34"]);
    for (query, count) in [("", 35), ("&limit=1", 35), ("&skip=5", 30), ("&skip=50", 0)] {
        let counted = app.guest.get(&format!("triggers?count=true{query}")).await.good();
        assert_eq!(counted, json!({"triggers": count}), "{query}");
    }
    for collection in ["actions", "packages", "triggers", "rules", "activations"] {
        for (query, parameter, why) in [
            ("limit=201", "limit", "The value '201' is not in the range of 0 to 200 for"),
            ("limit=-1", "limit", "The value '-1' is not in the range of 0 to 200 for"),
            ("limit=ten", "limit", "The value 'ten' is not an integer for"),
            ("limit=1.5", "limit", "The value '1.5' is not an integer for"),
            ("skip=-1", "skip", "The value '-1' is not greater than or equal to 0 for"),
            ("skip=x", "skip", "The value 'x' is not an integer for"),
            ("count=true&limit=201", "limit", "The value '201' is not in the range of 0 to 200 for"),
        ] {
            let why = format!("The query parameter '{parameter}' was malformed:\n{why} {collection}.");
            app.guest.get(&format!("{collection}?{query}")).await.refused(400, &why);
        }
        assert_eq!(
            app.guest.get(&format!("{collection}?count=true")).await.good().as_object().unwrap().len(),
            1
        );
    }
}

#[tokio::test]
async fn filters_of_activations() {
    let app = TestApp::start();
    for (query, why) in [
        (
            "name=a/b/c",
            "The query parameter 'name' was malformed:\nParameter may be a 'simple' name or 'package-name/simple' name: a/b/c",
        ),
        (
            "since=yesterday",
            "The query parameter 'since' was malformed:\nParameter is not a valid value for epoch seconds: yesterday",
        ),
        (
            "upto=1.5",
            "The query parameter 'upto' was malformed:\nParameter is not a valid value for epoch seconds: 1.5",
        ),
        ("docs=true&count=true", "The parameter 'docs' is not permitted with 'count'."),
    ] {
        app.guest.get(&format!("activations?{query}")).await.refused(400, why);
    }
    for query in
        ["name=", "name=%20", "name=a", "name=p%2Fa", "since=0&upto=0", "since=-5", "docs=true", "count=true"]
    {
        assert_eq!(app.guest.get(&format!("activations?{query}")).await.status, 200, "{query}");
    }
}
