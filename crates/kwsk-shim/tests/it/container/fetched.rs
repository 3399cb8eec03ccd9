//! Code that is fetched by its digest.

use super::*;

/// Answers each connection with what the text of its number says, later ones with the last; keeps what it was asked.
struct Store {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Store {
    async fn answering(answers: Vec<String>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/code", listener.local_addr().unwrap().port());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let asking = Arc::clone(&asked);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..read]).into_owned();
                let number = {
                    let mut all = asking.lock().unwrap();
                    all.push(text);
                    all.len() - 1
                };
                let answer = &answers[number.min(answers.len() - 1)];
                if answer.is_empty() {
                    open.push(stream);
                } else {
                    stream.write_all(answer.as_bytes()).await.ok();
                }
            }
        });
        Self { url, asked, _serving: serving }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

const FETCHED: &str = "function main() { return {fetched: true} }";

#[tokio::test(flavor = "multi_thread")]
async fn code_is_fetched_by_its_digest() {
    let mount = mount(&[("runtime", &description(FETCHED).to_string())]);
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&token, "secret\n").unwrap();
    let (good, port) = (answer("200 OK", FETCHED), free_port().to_string());
    let script = fixture("http_server.js");
    let launcher = ["--protocol", "actionloop", "--", "node", "{launcher:node}"];
    let http = ["--port", &port, "--", "node", &script, &port];
    let cut = good.replace("Content-Length: ", "Content-Length: 1");
    for (how, answers) in [
        (&launcher[..], vec![good.clone()]),
        (&http[..], vec![good.clone()]),
        (&launcher[..], vec![answer("503 Unavailable", ""), cut, answer("429 Too Many", ""), good]),
    ] {
        let (tries, store) = (answers.len(), Store::answering(answers).await);
        let environment = [("KWSK_CODE_URL", store.url.as_str()), ("KWSK_TOKEN", path(token.path()))];
        let how = [&["exec", "--action", path(mount.path())], how].concat();
        let container = Container::start(&how, &environment).await;
        assert_eq!(ok(&container.run(json!({})).await)["fetched"], json!(true));
        let asked = store.asked();
        assert_eq!(asked.len(), tries);
        for request in asked {
            assert!(request.starts_with(&format!("GET /code/{} HTTP/1.1\r\n", sha256(FETCHED))), "{request}");
            assert!(request.contains("authorization: Bearer secret\r\n"), "{request}");
        }
        container.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_cannot_be_fetched() {
    let mount = mount(&[("runtime", &description(FETCHED).to_string())]);
    let refused = format!("http://127.0.0.1:{}", free_port());
    let how = [
        "exec",
        "--action",
        path(mount.path()),
        "--timeout",
        "1500",
        "--protocol",
        "actionloop",
        "--",
        "node",
        "{launcher:node}",
    ];
    for (answers, token, part) in [
        (vec![answer("200 OK", &FETCHED.replace("true", "null"))], "", "should be"),
        (vec![answer("200 OK", &FETCHED.repeat(2))], "", "is longer than the action's"),
        (vec![answer("404 Not Found", "")], "", "it is not there (404)"),
        (vec![answer("401 Unauthorized", "")], "", "is not accepted"),
        (vec![answer("302 Found", "")], "", "the answer was 302"),
        (vec![answer("500 Internal Server Error", "")], "", "it answered 500"),
        (vec![String::new()], "", "did not answer within the action's time limit"),
        (vec![answer("200 OK", FETCHED)], "/", "The token at / cannot be read ("),
    ] {
        let store = Store::answering(answers).await;
        refuses(&how, &[("KWSK_CODE_URL", store.url.as_str()), ("KWSK_TOKEN", token)], part).await;
    }
    for (url, part) in [
        (refused.as_str(), "Connection refused"),
        ("http://no-such-host.invalid", "cannot be fetched from http://no-such-host.invalid:80/"),
        ("https://kwsk", "which is not plain http"),
    ] {
        refuses(&how, &[("KWSK_CODE_URL", url)], part).await;
    }
}
