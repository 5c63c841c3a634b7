//! Work of fragments: what it is, what is known of it, and draws that agree with what is known.
//!
//! `work = draw + context tokens · a + generated tokens · b`. The draw and the generated tokens are
//! hidden until the fragment ends; a fragment that has had service `s` is known to need more than
//! `s`.

use crate::state::Request;
use crate::stream;
use crate::world::{Fragment, World};

/// Part of a request's key for the number of generated tokens.
const TOKENS_PART: u64 = u64::MAX;

/// Whether the end of `fragment` tells how many tokens were generated.
pub(crate) fn tells_generated_tokens(fragment: &Fragment) -> bool {
    fragment.work_mi_per_generated_token > 0.0
}

/// The true work of fragment `index` of `request`, in MI.
pub(crate) fn work(fragment: &Fragment, index: usize, request: &Request) -> f64 {
    let drawn = fragment
        .work_mi
        .quantile(stream::unit(request.key, index as u64));
    drawn
        + fragment.work_mi_per_context_token * f64::from(request.context_tokens)
        + fragment.work_mi_per_generated_token * f64::from(request.generated_tokens)
}

/// The part of the work that is known from the start, in MI, with the mean of the random draw.
fn known_mi(fragment: &Fragment, context_tokens: u32) -> f64 {
    fragment.work_mi.mean() + fragment.work_mi_per_context_token * f64::from(context_tokens)
}

/// What a policy may know about the demand of a fragment.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Context tokens of its request.
    pub context_tokens: u32,
    /// Generated tokens, if an earlier fragment has told.
    pub generated_tokens: Option<u32>,
    /// Service that the fragment has had, in MI.
    pub attained_mi: f64,
}

/// Expected total work of a fragment, in MI; at least the service it has had.
#[must_use]
pub fn expected_mi(world: &World, application: usize, fragment: &Fragment, known: Known) -> f64 {
    let context = fragment.work_mi_per_context_token * f64::from(known.context_tokens);
    let per_token = fragment.work_mi_per_generated_token;
    let tokens = world.applications[application].generated_tokens.as_deref();
    match (known.generated_tokens, tokens) {
        (None, Some(distribution)) if per_token > 0.0 => {
            let offset = known_mi(fragment, known.context_tokens);
            let least = (known.attained_mi - offset) / per_token;
            (offset + per_token * distribution.mean_given_exceeds(least)).max(known.attained_mi)
        }
        (generated, _) => {
            let base = context + per_token * f64::from(generated.unwrap_or(0));
            let drawn = fragment
                .work_mi
                .mean_given_exceeds(known.attained_mi - base);
            (base + drawn).max(known.attained_mi)
        }
    }
}

/// Probability that the total work of a fragment exceeds `work_mi`, given what is known.
#[must_use]
pub fn exceeds(
    world: &World,
    application: usize,
    fragment: &Fragment,
    known: Known,
    work_mi: f64,
) -> f64 {
    if work_mi <= known.attained_mi {
        return 1.0;
    }
    let per_token = fragment.work_mi_per_generated_token;
    let tokens = world.applications[application].generated_tokens.as_deref();
    match (known.generated_tokens, tokens) {
        (None, Some(distribution)) if per_token > 0.0 => {
            let offset = known_mi(fragment, known.context_tokens);
            distribution.survival_given_exceeds(
                (known.attained_mi - offset) / per_token,
                (work_mi - offset) / per_token,
            )
        }
        (generated, _) => {
            let base = fragment.work_mi_per_context_token * f64::from(known.context_tokens)
                + per_token * f64::from(generated.unwrap_or(0));
            let given = fragment.work_mi.survival(known.attained_mi - base);
            if given <= 0.0 {
                0.0
            } else {
                fragment.work_mi.survival(work_mi - base) / given
            }
        }
    }
}

/// Draws the generated tokens of `request` anew, given the service `(fragment, MI)` that its
/// fragments have had.
pub(crate) fn redraw_tokens(world: &World, request: &mut Request, served: &[(usize, f64)]) {
    if request.generated_known {
        return;
    }
    let application = &world.applications[request.application.index()];
    let Some(distribution) = application.generated_tokens.as_deref() else {
        return;
    };
    let mut least = -1.0_f64;
    if let Some(deployed) = request.deployed {
        let fragments = &application.variants[deployed.variant.index()].fragments;
        for &(index, attained_mi) in served {
            let fragment = &fragments[index];
            if fragment.work_mi_per_generated_token > 0.0 {
                let offset = known_mi(fragment, request.context_tokens);
                least = least.max((attained_mi - offset) / fragment.work_mi_per_generated_token);
            }
        }
    }
    let drawn = distribution.sample_given_exceeds(least, stream::unit(request.key, TOKENS_PART));
    request.generated_tokens = to_tokens(drawn);
}

/// Draws the work of fragment `index` anew, in MI, given the service it has had.
pub(crate) fn redraw_work(
    fragment: &Fragment,
    index: usize,
    request: &Request,
    attained_mi: f64,
) -> f64 {
    let base = fragment.work_mi_per_context_token * f64::from(request.context_tokens)
        + fragment.work_mi_per_generated_token * f64::from(request.generated_tokens);
    let u = stream::unit(request.key, index as u64);
    (base + fragment.work_mi.sample_given_exceeds(attained_mi - base, u)).max(attained_mi)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "token counts come from a trace and saturate"
)]
pub(crate) fn to_tokens(value: f64) -> u32 {
    value.ceil() as u32
}
