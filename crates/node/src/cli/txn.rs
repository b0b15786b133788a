//! `synod txn`: runs a transaction.

use super::client::{Endpoints, prefix_end, request_error};
use super::print;
use anyhow::{Context, bail};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;
use std::io::Write;
use std::process::ExitCode;
use std::str::FromStr;
use synod_etcd_api::proto::etcdserverpb as pb;

/// Compare keys and run one of two lists of operations, atomically.
///
/// Prints SUCCESS if every comparison holds and FAILURE otherwise, then the operations' results. The
/// exit code is 0 in both cases. Without a comparison the --then operations run.
///
/// --compare, --then and --else can be repeated. Quote a word that contains spaces:
/// --then "put greeting 'hello world'".
#[derive(Debug, clap::Args)]
pub(super) struct Txn {
    /// Comparison: 'KEY = VALUE', or a number with version(KEY), create(KEY) (creation revision) or
    /// mod(KEY) (revision of the last write), as in 'version(KEY) > 0'. The operators are =, !=, < and >.
    #[arg(long, value_name = "COMPARISON")]
    compare: Vec<Comparison>,
    /// Operation to run if all comparisons hold: put KEY VALUE, get KEY or del KEY; get and del accept
    /// --prefix.
    #[arg(long = "then", value_name = "OPERATION")]
    then: Vec<Operation>,
    /// Operation to run if a comparison does not hold.
    #[arg(long = "else", value_name = "OPERATION")]
    otherwise: Vec<Operation>,
}

#[derive(Clone, Debug, PartialEq)]
struct Comparison(pb::Compare);

#[derive(Clone, Debug, PartialEq)]
struct Operation(Request);

impl Txn {
    pub(super) async fn run(self, to: Endpoints) -> anyhow::Result<ExitCode> {
        let ops = |list: Vec<Operation>| {
            let op = |Operation(request)| pb::RequestOp { request: Some(request) };
            list.into_iter().map(op).collect()
        };
        let request = pb::TxnRequest {
            compare: self.compare.into_iter().map(|Comparison(compare)| compare).collect(),
            success: ops(self.then),
            failure: ops(self.otherwise),
        };
        let reply = to.connect().await?.txn(request).await.map_err(request_error)?.into_inner();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", if reply.succeeded { "SUCCESS" } else { "FAILURE" })?;
        for response in reply.responses.into_iter().filter_map(|op| op.response) {
            writeln!(out)?;
            match response {
                Response::ResponsePut(_) => writeln!(out, "OK")?,
                Response::ResponseDeleteRange(reply) => writeln!(out, "{}", reply.deleted)?,
                Response::ResponseRange(reply) => {
                    print::pairs(&mut out, &reply.kvs, print::Show::Both)?;
                }
                Response::ResponseTxn(_) => writeln!(out, "nested transaction")?,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl FromStr for Comparison {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let words = words(text)?;
        let [left, relation, right] = words.as_slice() else {
            bail!("not a comparison: write KEY = VALUE or version(KEY) > 0, with spaces");
        };
        let result = match relation.as_str() {
            "=" | "==" => CompareResult::Equal,
            "!=" => CompareResult::NotEqual,
            "<" => CompareResult::Less,
            ">" => CompareResult::Greater,
            other => bail!("{other:?} is not a comparison operator: use =, !=, < or >"),
        };
        let (key, target, union) = target(left, right)?;
        Ok(Self(pb::Compare {
            result: result.into(),
            target: target.into(),
            key: key.to_owned().into(),
            target_union: Some(union),
            ..Default::default()
        }))
    }
}

/// Returns the key of a comparison, the attribute to compare, and the operand.
fn target<'a>(left: &'a str, right: &str) -> anyhow::Result<(&'a str, CompareTarget, TargetUnion)> {
    let number =
        || right.parse::<i64>().with_context(|| format!("{right:?} is not a whole number"));
    let of = |name: &str| left.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    Ok(if let Some(key) = of("version").or_else(|| of("ver")) {
        (key, CompareTarget::Version, TargetUnion::Version(number()?))
    } else if let Some(key) = of("create") {
        (key, CompareTarget::Create, TargetUnion::CreateRevision(number()?))
    } else if let Some(key) = of("mod") {
        (key, CompareTarget::Mod, TargetUnion::ModRevision(number()?))
    } else {
        let key = of("value").unwrap_or(left);
        (key, CompareTarget::Value, TargetUnion::Value(right.to_owned().into()))
    })
}

impl FromStr for Operation {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let words = words(text)?;
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let range_end =
            |key: &str, prefix| if prefix { prefix_end(key.as_bytes()) } else { vec![] };
        let (name, keys) = words
            .split_first()
            .context("the operation is empty: write put KEY VALUE, get KEY or del KEY")?;
        let (key, prefix) = match keys {
            [key] => (*key, false),
            [key, "--prefix"] | ["--prefix", key] => (*key, true),
            _ => ("", false),
        };
        let request = match (*name, keys) {
            ("put", [key, value]) => Request::RequestPut(pb::PutRequest {
                key: (*key).to_owned().into(),
                value: (*value).to_owned().into(),
                ..Default::default()
            }),
            ("get", _) if !key.is_empty() => Request::RequestRange(pb::RangeRequest {
                key: key.to_owned().into(),
                range_end: range_end(key, prefix).into(),
                ..Default::default()
            }),
            ("del", _) if !key.is_empty() => Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: key.to_owned().into(),
                range_end: range_end(key, prefix).into(),
                ..Default::default()
            }),
            _ => bail!("not an operation: write put KEY VALUE, get KEY or del KEY; quote spaces"),
        };
        Ok(Self(request))
    }
}

/// Splits a line into words. A word may be quoted, with ' or ".
fn words(line: &str) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '\'' | '"' => rest[1..].split_once(first).context("a quotation mark is not closed")?,
            _ => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_be_quoted() {
        assert_eq!(words(" put  a 'b c' \"d'e\" ''").unwrap(), ["put", "a", "b c", "d'e", ""]);
        assert!(words("put 'a").is_err());
    }

    #[test]
    fn comparison_is_parsed_with_its_target() {
        let compare = |text: &str| text.parse::<Comparison>().map(|Comparison(compare)| compare);
        let value = compare("'my key' = hello").unwrap();
        assert_eq!((value.key.as_ref(), value.result()), (&b"my key"[..], CompareResult::Equal));
        assert_eq!(value.target_union, Some(TargetUnion::Value("hello".into())));
        let version = compare("version(k) > 3").unwrap();
        assert_eq!(version.key, "k");
        assert_eq!(version.result(), CompareResult::Greater);
        assert_eq!(version.target_union, Some(TargetUnion::Version(3)));
        assert_eq!(compare("mod(k) != 3").unwrap().target(), CompareTarget::Mod);
        assert_eq!(compare("create(k) < 3").unwrap().target(), CompareTarget::Create);
        for text in ["", "k", "k = ", "k ~ v", "mod(k) = many", "k = v w"] {
            assert!(compare(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn operation_is_parsed_or_rejected() {
        let operation = |text: &str| text.parse::<Operation>().map(|Operation(request)| request);
        let Ok(Request::RequestPut(put)) = operation("put k 'v w'") else { panic!("a put") };
        assert_eq!((put.key.as_ref(), put.value.as_ref()), (&b"k"[..], &b"v w"[..]));
        let Ok(Request::RequestRange(get)) = operation("get k --prefix") else { panic!("a get") };
        assert_eq!(get.range_end, "l");
        assert!(matches!(operation("del k"), Ok(Request::RequestDeleteRange(_))));
        for text in ["", "put k", "get", "put a b c", "drop k", "del a b"] {
            assert!(operation(text).is_err(), "{text:?}");
        }
    }
}
