//! From a request to what a handler needs, in OpenWhisk's order: credentials, names, then query and body.
//!
//! `_` becomes the caller's namespace here and nowhere else.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use kwsk_knative::error::Error;
use kwsk_knative::ops::{Caller, Page};
use kwsk_model::body;
use kwsk_model::identity::AuthKey;
use kwsk_model::limits::{LIST_DEFAULT, LIST_MAX};
use kwsk_model::name::{EntityName, FullyQualifiedEntityName, Namespace};
use serde_json::{Map, Value};

use crate::app::App;
use crate::error::Refused;
use crate::layers::{Transaction, WholeBody};

// === who ===

/// Who calls. The first thing every handler below `/api/v1/namespaces` asks for.
pub struct Auth(pub Caller);

impl FromRequestParts<Arc<App>> for Auth {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refused> {
        authenticate(app, &parts.headers, &parts.extensions).await.map(Self)
    }
}

/// # Errors
/// 401, or 503 when subjects cannot be read.
pub async fn authenticate(
    app: &App,
    headers: &HeaderMap,
    extensions: &http::Extensions,
) -> Result<Caller, Refused> {
    let key = basic(headers)?;
    let identity = app.ops.auth.authenticate(&key).await?.ok_or_else(Refused::wrong_credentials)?;
    let transaction = extensions.get::<Transaction>().map_or_else(|| "".into(), |t| Arc::clone(&t.0));
    Ok(Caller { identity, transaction })
}

/// The key of a Basic header. Another scheme counts as no credentials.
fn basic(headers: &HeaderMap) -> Result<AuthKey, Refused> {
    let value = headers.get(AUTHORIZATION).ok_or_else(Refused::no_credentials)?;
    let text = value.to_str().map_err(|_| Refused::wrong_credentials())?;
    let (scheme, encoded) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Refused::no_credentials());
    }
    let encoded = encoded.trim();
    let decoded = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded));
    let pair = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    pair.and_then(|pair| pair.parse().ok()).ok_or_else(Refused::wrong_credentials)
}

// === what ===

/// The namespace in the path, and who asks.
pub struct Within {
    /// Who asks.
    pub caller: Caller,
    /// `_` resolved.
    pub namespace: Namespace,
}

impl Within {
    /// # Errors
    /// 403 naming the namespace unless the caller owns it.
    pub fn must_own(&self) -> Result<(), Refused> {
        own(&self.caller, &self.namespace, || self.namespace.to_string())
    }
}

/// The entity in the path, and who asks.
pub struct Named {
    /// Who asks.
    pub caller: Caller,
    /// `_` resolved.
    pub name: FullyQualifiedEntityName,
}

/// The entity in the path, which the caller owns.
pub struct Owned {
    /// Who asks.
    pub caller: Caller,
    /// `_` resolved.
    pub name: FullyQualifiedEntityName,
}

fn own(caller: &Caller, namespace: &Namespace, what: impl FnOnce() -> String) -> Result<(), Refused> {
    if caller.owns(namespace) { Ok(()) } else { Err(Error::Forbidden(vec![what()]).into()) }
}

/// Path segments, decoded once.
struct Segments(RawPathParams);

impl Segments {
    async fn of(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refused> {
        let decoded = RawPathParams::from_request_parts(parts, app).await;
        // Only bytes that are no UTF-8 fail, and they are in no name.
        decoded.map(Self).map_err(|_| kwsk_model::name::NameError::EntityIllegal.into())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    fn namespace(&self, caller: &Caller) -> Result<Namespace, Refused> {
        match self.get("ns").unwrap_or_default() {
            Namespace::DEFAULT => Ok(caller.namespace().clone()),
            text => Ok(Namespace::new(text)?),
        }
    }

    fn entity(&self, key: &str) -> Result<Option<EntityName>, Refused> {
        Ok(self.get(key).map(EntityName::new).transpose()?)
    }
}

impl FromRequestParts<Arc<App>> for Within {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refused> {
        let Auth(caller) = Auth::from_request_parts(parts, app).await?;
        let namespace = Segments::of(parts, app).await?.namespace(&caller)?;
        Ok(Self { caller, namespace })
    }
}

impl FromRequestParts<Arc<App>> for Named {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refused> {
        let Auth(caller) = Auth::from_request_parts(parts, app).await?;
        let segments = Segments::of(parts, app).await?;
        let namespace = segments.namespace(&caller)?;
        let package = segments.entity("pkg")?;
        let name = segments.entity("name")?.ok_or_else(Refused::no_route)?;
        let name = match package {
            Some(package) => FullyQualifiedEntityName::packaged(namespace, package, name),
            None => FullyQualifiedEntityName::new(namespace, name),
        };
        Ok(Self { caller, name })
    }
}

impl FromRequestParts<Arc<App>> for Owned {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refused> {
        let Named { caller, name } = Named::from_request_parts(parts, app).await?;
        own(&caller, name.namespace(), || name.to_string())?;
        Ok(Self { caller, name })
    }
}

/// The package in the path of a listing.
pub struct Package(pub EntityName);

impl FromRequestParts<Arc<App>> for Package {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refused> {
        let name = Segments::of(parts, app).await?.entity("name")?;
        name.map(Self).ok_or_else(Refused::no_route)
    }
}

/// The activation id in the path, unchecked.
pub struct Id(pub String);

impl FromRequestParts<Arc<App>> for Id {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refused> {
        let segments = Segments::of(parts, app).await?;
        Ok(Self(segments.get("id").unwrap_or_default().to_owned()))
    }
}

// === how ===

/// The query string. Of a repeated parameter the first counts.
#[derive(Debug, Default)]
pub struct Query(String);

impl Query {
    /// The decoded value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        if self.0.is_empty() {
            return None;
        }
        form_urlencoded::parse(self.0.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// A boolean in one of OpenWhisk's spellings; false when absent.
    ///
    /// # Errors
    /// 400.
    pub fn flag(&self, name: &str) -> Result<bool, Refused> {
        self.flag_or(name, false)
    }

    /// A boolean in one of OpenWhisk's spellings.
    ///
    /// # Errors
    /// 400.
    pub fn flag_or(&self, name: &str, absent: bool) -> Result<bool, Refused> {
        let Some(value) = self.get(name) else {
            return Ok(absent);
        };
        let is = |words: [&str; 4]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
        if is(["true", "yes", "on", "1"]) {
            Ok(true)
        } else if is(["false", "no", "off", "0"]) {
            Ok(false)
        } else {
            Err(Refused::bad_query(name, format_args!("'{value}' is not a valid Boolean value")))
        }
    }

    /// `limit` and `skip`; a limit of 0 is the largest.
    ///
    /// # Errors
    /// 400.
    pub fn page(&self, collection: &str) -> Result<Page, Refused> {
        let limit = match self.integer("limit", collection)? {
            None => u64::from(LIST_DEFAULT),
            Some(0) => u64::from(LIST_MAX),
            Some(n) => match u64::try_from(n) {
                Ok(n) if n <= u64::from(LIST_MAX) => n,
                _ => {
                    let why =
                        format!("The value '{n}' is not in the range of 0 to {LIST_MAX} for {collection}.");
                    return Err(Refused::bad_query("limit", why));
                }
            },
        };
        let skip = match self.integer("skip", collection)? {
            None => 0,
            Some(n) => u64::try_from(n).map_err(|_| {
                let why = format!("The value '{n}' is not greater than or equal to 0 for {collection}.");
                Refused::bad_query("skip", why)
            })?,
        };
        Ok(Page { skip, limit })
    }

    fn integer(&self, name: &str, collection: &str) -> Result<Option<i64>, Refused> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| {
            Refused::bad_query(name, format_args!("The value '{value}' is not an integer for {collection}."))
        })
    }

    /// Milliseconds since the epoch; what lies before it is the epoch.
    ///
    /// # Errors
    /// 400.
    pub fn instant(&self, name: &str) -> Result<Option<u64>, Refused> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let parsed: Result<i64, _> = value.parse();
        parsed.map(|ms| Some(u64::try_from(ms).unwrap_or(0))).map_err(|_| {
            Refused::bad_query(
                name,
                format_args!("Parameter is not a valid value for epoch seconds: {value}"),
            )
        })
    }
}

impl FromRequestParts<Arc<App>> for Query {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Refused> {
        Ok(Self(parts.uri.query().unwrap_or_default().to_owned()))
    }
}

/// A body that is JSON, says nothing of its type, or is not there.
pub struct Payload(pub Bytes);

impl FromRequestParts<Arc<App>> for Payload {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Refused> {
        let body = parts.extensions.remove::<WholeBody>().map(|WholeBody(bytes)| bytes).unwrap_or_default();
        match parts.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?")) {
            Some(sent) if !body.is_empty() && !is_json(sent) => Err(Refused::media_type(sent)),
            _ => Ok(Self(body)),
        }
    }
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// A body that has to be there.
pub struct Document(Bytes);

impl Document {
    /// The members of the JSON object.
    ///
    /// # Errors
    /// 400 for everything else.
    pub fn members(&self) -> Result<Map<String, Value>, Refused> {
        Ok(body::object(&self.0)?)
    }
}

impl FromRequestParts<Arc<App>> for Document {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refused> {
        let Payload(body) = Payload::from_request_parts(parts, app).await?;
        if body.is_empty() {
            return Err(Refused::invalid("Request entity expected but not supplied"));
        }
        Ok(Self(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    fn why(refused: Refused) -> String {
        let message = format!("{refused:?}");
        assert_eq!(refused.into_response().status(), 400);
        message
    }

    #[test]
    fn flags() {
        let query = |text: &str| Query(text.to_owned());
        for yes in ["true", "TRUE", "yes", "on", "1"] {
            assert!(query(&format!("a=0&blocking={yes}")).flag("blocking").unwrap(), "{yes}");
        }
        for no in ["false", "No", "off", "0"] {
            assert!(!query(&format!("blocking={no}")).flag("blocking").unwrap(), "{no}");
        }
        assert!(!query("").flag("blocking").unwrap());
        assert!(query("").flag_or("code", true).unwrap());
        let refused = query("blocking=maybe").flag("blocking").unwrap_err();
        assert!(why(refused).contains("'maybe' is not a valid Boolean value"));
        assert!(query("blocking=").flag("blocking").is_err());
    }

    #[test]
    fn pages() {
        let page = |text: &str| Query(text.to_owned()).page("actions");
        assert_eq!(page("").unwrap(), Page { skip: 0, limit: 30 });
        assert_eq!(page("limit=0&skip=3").unwrap(), Page { skip: 3, limit: 200 });
        assert_eq!(page("limit=200").unwrap().limit, 200);
        for (text, reason) in [
            ("limit=201", "The value '201' is not in the range of 0 to 200 for actions."),
            ("limit=-1", "The value '-1' is not in the range of 0 to 200 for actions."),
            ("limit=x", "The value 'x' is not an integer for actions."),
            ("skip=-1", "The value '-1' is not greater than or equal to 0 for actions."),
            ("skip=1.5", "The value '1.5' is not an integer for actions."),
            ("skip=99999999999999999999", "is not an integer for actions."),
        ] {
            assert!(why(page(text).unwrap_err()).contains(reason), "{text}");
        }
    }

    #[test]
    fn keys() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            basic(&headers)
        };
        let pair = format!("23bc46b1-71f6-4ed5-8c54-816aa4f8c502:{}", "k".repeat(64));
        assert_eq!(read(&format!("Basic {}", STANDARD.encode(&pair))).unwrap().reveal(), pair);
        assert_eq!(read(&format!("basic {}", STANDARD_NO_PAD.encode(&pair))).unwrap().reveal(), pair);
        let text = |value: &str| format!("{:?}", read(value).unwrap_err());
        assert!(text("Basic xxx").contains("authentication is invalid"));
        assert!(text("Basic").contains("authentication is invalid"));
        assert!(text(&format!("Bearer {}", STANDARD.encode(&pair))).contains("was not supplied"));
        assert!(format!("{:?}", basic(&HeaderMap::new()).unwrap_err()).contains("was not supplied"));
    }

    #[test]
    fn media_types() {
        for good in ["application/json", "Application/JSON", "application/json; charset=utf-8"] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
