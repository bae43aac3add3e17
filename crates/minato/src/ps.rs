//! `minato ps`.

use std::process::ExitCode;

use anyhow::Result;
use minato_wire::ecs;

use crate::api::{Api, address_of, block_on, id_of};
use crate::args::PsArgs;
use crate::home::Home;
use crate::out::say;

pub(crate) fn run(home: &Home, args: &PsArgs) -> Result<ExitCode> {
    let api = Api::of(home)?;
    let tasks = block_on(api.tasks(args.all))?;
    let rows: Vec<[String; 6]> = tasks.iter().map(row).collect();
    say!("{}", table(&rows).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

const HEAD: [&str; 6] =
    ["TASK", "CLUSTER", "DEFINITION", "STATUS", "ADDRESS", "CONTAINERS"];

fn row(task: &ecs::Task) -> [String; 6] {
    let last = |arn: &Option<String>| {
        let arn = arn.as_deref().unwrap_or_default();
        arn.rsplit('/').next().unwrap_or_default().to_owned()
    };
    let containers: Vec<String> = task
        .containers
        .iter()
        .flatten()
        .map(|container| {
            let name = container.name.as_deref().unwrap_or_default();
            match (container.exit_code, container.last_status.as_deref()) {
                (Some(code), _) => format!("{name}:exit {code}"),
                (None, status) => {
                    format!("{name}:{}", status.unwrap_or("?"))
                }
            }
        })
        .collect();
    [
        id_of(task).chars().take(12).collect(),
        last(&task.cluster_arn),
        last(&task.task_definition_arn),
        task.last_status.clone().unwrap_or_default(),
        addresses(task),
        containers.join(" "),
    ]
}

/// Where a task can be reached: its own address, or ports of the host.
fn addresses(task: &ecs::Task) -> String {
    if let Some(address) = address_of(task) {
        return address.to_owned();
    }
    let bindings: Vec<String> = task
        .containers
        .iter()
        .flatten()
        .flat_map(|container| container.network_bindings.iter().flatten())
        .filter_map(|binding| Some(format!("127.0.0.1:{}", binding.host_port?)))
        .collect();
    if bindings.is_empty() { "-".to_owned() } else { bindings.join(",") }
}

/// Columns as wide as their widest cell.
fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.chain([HEAD[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |cells: [&str; 6]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(HEAD);
    for row in rows {
        text.push_str(&line(std::array::from_fn(|at| row[at].as_str())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = ["a", "default", "web:1", "RUNNING", "-", "web:RUNNING"];
        let text = table(&[row.map(str::to_owned)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("CLUSTER"), lines[1].find("default"));
        assert_eq!(lines[0].find("STATUS"), lines[1].find("RUNNING"));
    }

    #[test]
    fn a_task_shows_where_it_can_be_reached() {
        let mut task = ecs::Task::default();
        assert_eq!(addresses(&task), "-");
        task.containers = Some(vec![ecs::Container {
            network_bindings: Some(vec![ecs::NetworkBinding {
                host_port: Some(32768),
                ..Default::default()
            }]),
            ..Default::default()
        }]);
        assert_eq!(addresses(&task), "127.0.0.1:32768");
    }
}
