//! `synod status`: shows the status of each node.

use super::client::Endpoints;
use super::print;
use crate::http;
use crate::server::NodeReport;
use anyhow::Context;
use std::process::ExitCode;

/// Show the status of each node: role, leader, term, commit and applied slots, digest of the state.
///
/// Prints one line per node. Nodes with the same applied slot must show the same digest. In
/// basic-paxos there is no leader, and LEADER is a dash. Fails if no node replies.
#[derive(Debug, clap::Args)]
pub(super) struct ShowStatus {
    /// Print one JSON object per node instead of a table.
    #[arg(long)]
    json: bool,
}

impl ShowStatus {
    pub(super) async fn run(self, to: Endpoints) -> anyhow::Result<ExitCode> {
        let columns =
            ["ENDPOINT", "NODE", "ROLE", "LEADER", "TERM", "COMMIT", "APPLIED", "STATE DIGEST"];
        let mut rows = vec![columns.map(str::to_owned).to_vec()];
        let mut reached = 0;
        for address in to.addresses() {
            match fetch_report(address, &to).await {
                Ok(report) => {
                    reached += 1;
                    if self.json {
                        println!("{}", serde_json::to_string(&report)?);
                    }
                    rows.push(row(address, &report));
                }
                Err(error) if self.json => eprintln!("synod: {error:#}"),
                Err(_) => rows.push([address, "-", "unreachable"].map(str::to_owned).to_vec()),
            }
        }
        if !self.json {
            print::table(&mut std::io::stdout().lock(), &rows)?;
        }
        Ok(if reached > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn fetch_report(address: &str, to: &Endpoints) -> anyhow::Result<NodeReport> {
    let page = http::get(address, "/status", to.request_timeout()).await?;
    let report = serde_json::from_str(&page.body);
    report.with_context(|| format!("the reply of {address} is not a node's status"))
}

fn row(address: &str, report: &NodeReport) -> Vec<String> {
    vec![
        address.to_owned(),
        report.node.to_string(),
        report.role.clone(),
        match report.leader {
            Some(leader) if leader == report.node && report.role == "peer" => "-".to_owned(),
            Some(leader) => leader.to_string(),
            None => "none".to_owned(),
        },
        report.term.to_string(),
        report.commit.to_string(),
        report.applied.to_string(),
        report.digest.clone(),
    ]
}
