//! `cluster/*.json`: Kubernetes objects as `kubectl get -o json` prints them, reduced to what names,
//! starts and compares a walk.
