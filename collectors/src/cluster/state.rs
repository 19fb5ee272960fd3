//! What a pod's status says about its only container.

use k8s_openapi::api::core::v1::Pod;

/// How far it is.
pub(super) enum State {
    /// It runs.
    Running,
    /// Not yet, and why.
    Waiting(String),
    /// Its image cannot be had.
    Image(String),
    /// It will not run any more.
    Ended(String),
}

/// Reads it.
pub(super) fn state(pod: &Pod) -> State {
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    if matches!(phase.as_str(), "Failed" | "Succeeded") {
        let why = [status.reason, status.message];
        let why: Vec<String> = why.into_iter().flatten().collect();
        return State::Ended(format!("its pod is {phase} {}", why.join(": ")).trim().to_owned());
    }
    let container = status.container_statuses.into_iter().flatten().next();
    let Some(state) = container.and_then(|container| container.state) else {
        let scheduled = status.conditions.into_iter().flatten().find(|c| c.status == "False");
        let why = scheduled.and_then(|c| c.message.or(c.reason)).unwrap_or_default();
        return State::Waiting(format!("its pod is {phase} {why}").trim().to_owned());
    };
    if state.running.is_some() {
        return State::Running;
    }
    if let Some(ended) = state.terminated {
        let message = ended.message.or(ended.reason).unwrap_or_default();
        return State::Ended(format!("it ended with {}: {message}", ended.exit_code));
    }
    let waiting = state.waiting.unwrap_or_default();
    let reason = waiting.reason.unwrap_or_default();
    let message = format!("{reason} {}", waiting.message.unwrap_or_default())
        .trim()
        .to_owned();
    match reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => State::Image(message),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => State::Ended(message),
        _ => State::Waiting(message),
    }
}
