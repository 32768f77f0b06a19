//! Request bodies in JSON: weighed before they are parsed, so that nothing is made of them that was
//! not asked for.
//!
//! A list of two bytes an entry becomes one of a hundred. The first pass over the text makes
//! nothing, counts what the second one will make, and stops at the first value too many.

use std::fmt;

use axum::body::Body;
use axum::http::HeaderMap;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor,
};

use super::body::{BodyLimits, collect, declared_length, grow};
use super::error::ApiError;
use crate::admission::{Client, Hold, count_hit};
use crate::app::App;

/// What a value takes at most besides its text: a text in a list that doubles as it grows and is
/// copied when it does.
const VALUE_BYTES: u64 = 112;
/// What an object takes at most besides its keys and values, which are weighed as well, and what a
/// list does.
const OBJECT_BYTES: u64 = 384;
const LIST_BYTES: u64 = 64;

/// How much of what serde says is told. It may repeat a value, and a value may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    All,
    Place,
}

/// Reads a body of at most `bytes`, which `what` names, as `T`. The memory that it takes is held as
/// long as the second part.
pub(super) async fn read<T: DeserializeOwned>(
    app: &App,
    client: &Client,
    headers: &HeaderMap,
    body: Body,
    (bytes, what, told): (u64, &str, Detail),
) -> Result<(T, Hold), ApiError> {
    let bodies = &app.budgets.bodies;
    let limits = BodyLimits::new(&app.config.limits, bytes.min(bodies.largest()));
    let declared = declared_length(headers, limits)?;
    let mut hold = bodies.open(client);
    let text = collect(body, declared, limits, &mut hold).await?;
    let value = parse(app, text, &mut hold, (what, told)).await?;
    hold.settle();
    Ok((value, hold))
}

/// Parses a text that `what` names and whose memory `hold` has. It has what the value takes instead
/// then.
pub(super) async fn parse<T: DeserializeOwned>(
    app: &App,
    text: Vec<u8>,
    hold: &mut Hold,
    (what, told): (&str, Detail),
) -> Result<T, ApiError> {
    let bodies = &app.budgets.bodies;
    let refused = |error: &serde_json::Error| {
        let reason = match told {
            Detail::All => format!(": {error}"),
            Detail::Place => format!(" at line {}, column {}", error.line(), error.column()),
        };
        ApiError::bad_request(format!(
            "the {what} does not parse{reason}; docs/protocol.md has its form"
        ))
    };
    let text_bytes = text.len() as u64;
    // Texts with escapes are put together in a buffer first.
    let scratch = if text.contains(&b'\\') { text_bytes } else { 0 };
    let most = bodies.largest().saturating_sub(text_bytes + scratch);
    let weight = match weigh(&text, most) {
        Ok(weight) => weight,
        Err(WeighError::TooHeavy) => {
            count_hit("json-values");
            let message = format!(
                "the {what} has too many values, or too much text, for the memory of this server \
                 (`[limits] memory`); split it"
            );
            return Err(ApiError::limit(message));
        }
        Err(WeighError::Malformed(error)) => return Err(refused(&error)),
    };
    grow(hold, text_bytes + scratch + weight, None).await?;
    let value = serde_json::from_slice(&text).map_err(|error| refused(&error))?;
    drop(text);
    hold.shrink(weight);
    Ok(value)
}

/// Why a text was not weighed to its end.
#[derive(Debug)]
enum WeighError {
    TooHeavy,
    Malformed(serde_json::Error),
}

/// The most bytes that any message takes that is parsed from `text`, if they are no more than
/// `most`.
fn weigh(text: &[u8], most: u64) -> Result<u64, WeighError> {
    let mut scale = Scale { weight: 0, most };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let weighed = scale.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match weighed {
        _ if scale.weight > most => Err(WeighError::TooHeavy),
        Ok(()) => Ok(scale.weight),
        Err(error) => Err(WeighError::Malformed(error)),
    }
}

struct Scale {
    weight: u64,
    most: u64,
}

impl Scale {
    fn add<E: de::Error>(&mut self, bytes: u64) -> Result<(), E> {
        self.weight = self.weight.saturating_add(bytes);
        if self.weight > self.most { Err(E::custom("it has too many values")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Scale {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Scale {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.add(VALUE_BYTES)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.add(VALUE_BYTES)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.add(VALUE_BYTES)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.add(VALUE_BYTES)
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.add(VALUE_BYTES)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.add(VALUE_BYTES + text.len() as u64)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.add(LIST_BYTES)?;
        while list.next_element_seed(&mut *self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        self.add(OBJECT_BYTES)?;
        while object.next_key_seed(&mut *self)?.is_some() {
            object.next_value_seed(&mut *self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use snowbank_core::wire::CommitRequest;

    use super::*;

    #[test]
    fn empty_texts_weigh_what_they_become() {
        let text = format!("[{}\"\"]", "\"\",".repeat(1_000_000));
        assert!(weigh(text.as_bytes(), u64::MAX).unwrap() > 100_000_000);
        assert!(matches!(weigh(text.as_bytes(), 8 << 20), Err(WeighError::TooHeavy)));
    }

    #[test]
    fn an_ordinary_commit_weighs_a_few_times_its_text() {
        let path = r#"{"store_path":"/nix/store/00000000000000000000000000000000-a","nar_hash":
            "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73","nar_size":112,
            "references":[],"manifest":{"inline":"AAAA"}}"#;
        let text = format!("{{\"paths\":[{path},{path}]}}");
        let weight = weigh(text.as_bytes(), u64::MAX).unwrap();
        assert!(
            (text.len() as u64..24 * text.len() as u64).contains(&weight),
            "{weight} of {}",
            text.len()
        );
        serde_json::from_str::<CommitRequest>(&text).unwrap();
    }

    #[test]
    fn what_is_no_json_is_refused_as_such() {
        for text in ["", "{", "[1,]", "{\"a\":1} x", "\"\\ud800\""] {
            assert!(
                matches!(weigh(text.as_bytes(), 1 << 20), Err(WeighError::Malformed(_))),
                "{text}"
            );
        }
        let deep = "[".repeat(100_000);
        assert!(weigh(deep.as_bytes(), 1 << 30).is_err());
    }
}
