//! The mini-invoker inside each action's container.
