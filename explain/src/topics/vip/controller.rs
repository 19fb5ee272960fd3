//! Which controller put an address on a Service, by what it leaves in the objects.

use std::net::IpAddr;

use super::{VipRole, VipService};
use crate::names::Named;
use crate::resolve::Context;

/// Who puts load balancer addresses on Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// MetalLB.
    MetalLb,
    /// PureLB.
    PureLb,
    /// kube-vip.
    KubeVip,
    /// ServiceLB of k3s and RKE2 (`svclb-` pods).
    ServiceLb,
    /// Cilium's LB IPAM.
    Cilium,
    /// OpenELB.
    OpenElb,
    /// A cloud's load balancer.
    Cloud,
    /// Whoever wrote `externalIPs`.
    Administrator,
}

/// How an address is expected to be answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// By a program in user space on one node, or by routes a program announces; the kernels must keep silent.
    Program,
    /// By the kernel of the one node that has it on a device; or it stands on `kube-lb0` of all and is routed.
    Device,
    /// It is an address of the nodes themselves.
    NodeAddress,
    /// A balancer outside takes it, and sends to NodePorts.
    Elsewhere,
    /// Whoever chose the address sees to it.
    Nothing,
}

impl Controller {
    /// How it expects its addresses to be answered for.
    #[must_use]
    pub const fn expects(self) -> Expects {
        match self {
            Self::MetalLb | Self::Cilium | Self::OpenElb => Expects::Program,
            Self::PureLb | Self::KubeVip => Expects::Device,
            Self::ServiceLb => Expects::NodeAddress,
            Self::Cloud => Expects::Elsewhere,
            Self::Administrator => Expects::Nothing,
        }
    }
}

/// Who it is, and what told so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who.
    pub controller: Controller,
    /// The Service.
    pub service: Named,
    /// What told: an annotation, a label, a class, a pod, as written.
    pub by: String,
    /// The node that the controller says announces the address, when it writes that down.
    pub node: Option<String>,
}

/// Prefixes of annotations and labels by which controllers are known.
const MARKS: &[(&str, Controller)] = &[
    ("metallb.io/", Controller::MetalLb),
    ("metallb.universe.tf/", Controller::MetalLb),
    ("purelb.io/", Controller::PureLb),
    ("kube-vip.io/", Controller::KubeVip),
    ("svccontroller.k3s.cattle.io/", Controller::ServiceLb),
    ("io.cilium/lb-ipam", Controller::Cilium),
    ("lbipam.cilium.io/", Controller::Cilium),
    ("lb.kubesphere.io/", Controller::OpenElb),
    ("service.beta.kubernetes.io/aws-", Controller::Cloud),
    ("service.beta.kubernetes.io/azure-", Controller::Cloud),
    ("service.beta.kubernetes.io/do-", Controller::Cloud),
    ("cloud.google.com/", Controller::Cloud),
    ("load-balancer.hetzner.cloud/", Controller::Cloud),
];

/// `loadBalancerClass` by its beginning.
const CLASSES: &[(&str, Controller)] = &[
    ("metallb", Controller::MetalLb),
    ("purelb.io/", Controller::PureLb),
    ("kube-vip.io/", Controller::KubeVip),
    ("io.cilium/", Controller::Cilium),
    ("service.k8s.aws/", Controller::Cloud),
    ("eks.amazonaws.com/", Controller::Cloud),
    ("networking.gke.io/", Controller::Cloud),
    ("openelb", Controller::OpenElb),
];

/// Pods whose labels say that a controller runs here: label, value, whose.
const PODS: &[(&str, &str, Controller)] = &[
    ("component", "speaker", Controller::MetalLb),
    ("component", "lbnodeagent", Controller::PureLb),
    ("app.kubernetes.io/name", "kube-vip-ds", Controller::KubeVip),
    ("app.kubernetes.io/name", "openelb", Controller::OpenElb),
];

/// The controller of the first Service that tells one.
pub fn tell(context: Context<'_, '_>, services: &[VipService], address: IpAddr) -> Option<Told> {
    services.iter().find_map(|s| of_service(context, s, address))
}

fn of_service(context: Context<'_, '_>, of: &VipService, address: IpAddr) -> Option<Told> {
    let told = |controller, by: String, node| Told {
        controller,
        service: of.name.clone(),
        by,
        node,
    };
    match of.role {
        VipRole::ExternalIp => {
            return Some(told(
                Controller::Administrator,
                format!("externalIPs of svc/{}", of.name),
                None,
            ));
        }
        VipRole::ClusterIp => return None,
        VipRole::LoadBalancer { .. } => {}
    }
    let service = context.names.service(&of.name)?;
    if let Some(class) = &service.load_balancer_class
        && let Some((_, controller)) = CLASSES.iter().find(|(start, _)| class.starts_with(start))
    {
        return Some(told(
            *controller,
            format!("loadBalancerClass: {class}"),
            announced(service, address),
        ));
    }
    let marked = |(key, value): (&String, &String)| {
        let (_, controller) = MARKS.iter().find(|(start, _)| key.starts_with(start))?;
        Some((*controller, format!("{key}: {value}")))
    };
    let marks = service.annotations.iter().chain(&service.labels);
    if let Some((controller, by)) = marks.into_iter().find_map(marked) {
        return Some(told(controller, by, announced(service, address)));
    }
    let own = |(key, value): (&str, &str)| {
        context
            .names
            .pods()
            .filter_map(|(name, entry)| Some((name, entry.object?)))
            .find(|(_, pod)| pod.labels.get(key).is_some_and(|v| v == value))
            .map(|(name, _)| name.clone())
    };
    if let Some(pod) = own(("svccontroller.k3s.cattle.io/svcname", &of.name.name)) {
        return Some(told(Controller::ServiceLb, format!("pod {pod}"), None));
    }
    PODS.iter().find_map(|&(key, value, controller)| {
        let pod = own((key, value))?;
        Some(told(controller, format!("pod {pod}"), announced(service, address)))
    })
}

/// PureLB and kube-vip write down which node has the address.
fn announced(service: &knet_snapshot::cluster::Service, address: IpAddr) -> Option<String> {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let keys = [
        format!("purelb.io/announcing-{family}"),
        "kube-vip.io/vipHost".to_owned(),
    ];
    let value = keys.iter().find_map(|key| service.annotations.get(key))?;
    // PureLB adds the device.
    value.split(',').next().filter(|n| !n.is_empty()).map(str::to_owned)
}
