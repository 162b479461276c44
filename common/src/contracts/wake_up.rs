//! Wake-up calls: one for one workflow needs no body; one for many names them.

use serde::{Deserialize, Serialize};

use crate::ids::WorkflowRef;

/// The body of `timer.group.<id>`, and of `due.group.<id>` when its time has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeUpCalls {
    /// Who is to be woken.
    pub workflows: Vec<WorkflowRef>,
}
