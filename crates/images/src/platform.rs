//! Which of an index's manifests runs here.

use crate::manifest::{Descriptor, Platform};

/// The platforms this machine runs, the best first.
pub fn host() -> Vec<Platform> {
    let platform = |architecture: &str, variant: &str| Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.to_owned(),
    };
    match std::env::consts::ARCH {
        "x86_64" => amd64_levels().iter().map(|level| platform("amd64", level)).collect(),
        "aarch64" => {
            let arm = ["v8", "v7", "v6", "v5"].map(|variant| platform("arm", variant));
            std::iter::once(platform("arm64", "v8")).chain(arm).collect()
        }
        "arm" => ["v7", "v6", "v5"].map(|variant| platform("arm", variant)).into(),
        "x86" => vec![platform("386", "")],
        "riscv64" => vec![platform("riscv64", "")],
        "s390x" => vec![platform("s390x", "")],
        "powerpc64" => vec![platform("ppc64le", "")],
        other => vec![platform(other, "")],
    }
}

/// The levels of x86-64 that this processor has, the highest first; `v1` is every one's.
#[cfg(target_arch = "x86_64")]
fn amd64_levels() -> &'static [&'static str] {
    let v2 =
        is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt") && is_x86_feature_detected!("ssse3");
    let v3 = v2
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("lzcnt");
    let v4 = v3
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let levels: &[&str] = &["v4", "v3", "v2", "v1"];
    &levels[if v4 {
        0
    } else if v3 {
        1
    } else if v2 {
        2
    } else {
        3
    }..]
}

#[cfg(not(target_arch = "x86_64"))]
fn amd64_levels() -> &'static [&'static str] {
    &["v1"]
}

/// The manifest for the best of `wanted`; those that state no platform come last, for their config decides.
pub(crate) fn pick<'a>(manifests: &'a [Descriptor], wanted: &[Platform]) -> Option<&'a Descriptor> {
    wanted
        .iter()
        .find_map(|wanted| {
            manifests
                .iter()
                .find(|manifest| manifest.platform.as_ref().is_some_and(|platform| normal(platform) == *wanted))
        })
        .or_else(|| manifests.iter().find(|manifest| manifest.platform.is_none()))
}

/// Does an image of this platform run on one of `wanted`?
pub(crate) fn runs(platform: &Platform, wanted: &[Platform]) -> bool {
    wanted.contains(&normal(platform))
}

/// Fills in what is usually left out and maps other names to Go's.
fn normal(platform: &Platform) -> Platform {
    let (architecture, variant) = match (platform.architecture.as_str(), platform.variant.as_str()) {
        ("amd64" | "x86_64" | "x86-64", "") => ("amd64", "v1"),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("arm64" | "aarch64", "" | "8" | "v8") => ("arm64", "v8"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("i386" | "386", _) => ("386", ""),
        other => other,
    };
    Platform { os: platform.os.to_lowercase(), architecture: architecture.to_owned(), variant: variant.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform { os: next(), architecture: next(), variant: next() }
    }

    fn check(offered: &[&str], wanted: &[&str], expect: Option<usize>) {
        let manifests: Vec<Descriptor> = offered
            .iter()
            .map(|text| Descriptor {
                platform: (*text != "-").then(|| platform(text)),
                ..Descriptor::new("", Digest::of(text.as_bytes()), 1)
            })
            .collect();
        let wanted: Vec<Platform> = wanted.iter().map(|text| platform(text)).collect();
        let picked = pick(&manifests, &wanted).map(|found| manifests.iter().position(|m| m == found).unwrap());
        assert_eq!(picked, expect, "{offered:?} for {wanted:?}");
    }

    #[test]
    fn the_best_manifest_that_runs_here_is_picked() {
        let v3 = ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64/v1"];
        check(&["linux/arm64", "linux/amd64"], &v3, Some(1));
        check(&["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], &v3, Some(1));
        check(&["windows/amd64", "unknown/unknown"], &v3, None);
        check(&["linux/arm64", "-"], &v3, Some(1));
        check(&["-", "linux/amd64"], &v3, Some(1));
        check(&["linux/arm/v6", "linux/arm/v7"], &["linux/arm/v7", "linux/arm/v6"], Some(1));
        check(&["linux/aarch64"], &["linux/arm64/v8"], Some(0));
        check(&[], &v3, None);
    }

    #[test]
    fn this_machine_runs_something() {
        assert!(host().iter().all(|platform| platform.os == "linux" && !platform.architecture.is_empty()));
        assert!(!host().is_empty());
    }
}
