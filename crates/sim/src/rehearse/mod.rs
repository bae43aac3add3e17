//! Plans played in the simulator: what would happen if.
//!
//! A plan names hosts, services and what befalls them. The real control plane
//! decides; the hosts do as the plan says; what came of it is told as a
//! timeline, in numbers and as a picture. Equal plans give equal reports.

mod actor;
mod plan;
mod read;
mod report;
mod stage;
mod svg;
mod yaml;

pub use self::plan::Plan;
pub use self::report::Report;
use self::yaml::At;

/// A mistake in a plan, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {message}", at.line, at.column)]
pub struct PlanError {
    at: At,
    message: String,
}

impl PlanError {
    /// The mistake with the line of `text` it is in and a caret under it;
    /// `name` is what the plan is called.
    pub fn show(&self, name: &str, text: &str) -> String {
        let At { line, column, length } = self.at;
        let source = text.lines().nth(line.saturating_sub(1)).unwrap_or("");
        // Tabs would put the caret elsewhere.
        let source = source.replace('\t', " ");
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        let indent = " ".repeat(column.saturating_sub(1));
        let left = source.chars().count().saturating_sub(column - 1);
        let carets = "^".repeat(length.min(left).max(1));
        format!(
            "{name}:{line}:{column}: {}\n{gutter} |\n{number} | {source}\n\
             {gutter} | {indent}{carets}",
            self.message
        )
    }
}

/// Why a plan could not be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RehearseError {
    /// The control plane takes something of it amiss.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The simulator failed, which is no fault of the plan.
    #[error("the simulator failed: {0}")]
    Simulator(String),
}

/// Plays a plan.
///
/// # Errors
/// Where the control plane refuses what the plan asks for.
pub fn rehearse(plan: &Plan) -> Result<Report, RehearseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| RehearseError::Simulator(error.to_string()))?;
    runtime.block_on(stage::play(plan))
}

#[cfg(test)]
mod tests;
