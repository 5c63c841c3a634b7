//! The encoding is bounded everywhere, free of scale, and independent of what came before.

use models::encoding::{
    ENCODING_VERSION, Encoded, Encoder, GLOBAL_FEATURES, HOST_FEATURES, Kind, LIMIT, MOST_PLACES,
    NO_HOST, encoding_hash,
};
use twin::estimate::Loads;
use twin::ids::HostId;
use twin::objective::Weights;
use twin::sequence::{Context, Question};
use twin::state::Epoch;
use twin::{Decision, Observation, State, World};

use crate::common::{changed, episode, worlds};

fn check(encoded: &Encoded) {
    let width = encoded.kind.features().len();
    assert_eq!(encoded.global.len(), GLOBAL_FEATURES.len());
    assert_eq!(
        encoded.hosts.len(),
        encoded.host_count * HOST_FEATURES.len()
    );
    assert_eq!(encoded.candidates.len(), encoded.candidate_count * width);
    assert_eq!(encoded.candidate_hosts.len(), encoded.candidate_count);
    assert_eq!(encoded.answers.len(), encoded.candidate_count);
    assert!(encoded.answers.is_sorted());
    assert!(encoded.candidate_count > 0);
    let all = [&encoded.global, &encoded.hosts, &encoded.candidates];
    for value in all.into_iter().flatten() {
        assert!(value.is_finite() && value.abs() <= LIMIT, "{value}");
    }
    for &host in &encoded.candidate_hosts {
        assert!(host == NO_HOST || (host as usize) < encoded.host_count);
    }
}

/// Checks all questions of a short episode; how many there were of each kind.
fn check_episode(world: &World) -> [usize; 3] {
    let mut encoder = Encoder::new();
    let mut encoded = Encoded::default();
    let mut counts = [0; 3];
    episode(world, 6, |context, question| {
        encoder.encode(context, question, &mut encoded);
        check(&encoded);
        counts[encoded.kind.index()] += 1;
    });
    counts
}

#[test]
fn features_are_finite_and_bounded_in_all_situations() {
    for world in worlds() {
        let counts = check_episode(&world);
        assert!(
            counts.iter().all(|&count| count > 0),
            "{}: {counts:?}",
            world.name
        );
        check_episode(&changed(&world, |file| {
            file.hosts.truncate(1);
            file.hosts[0].count = 1;
        }));
        check_episode(&changed(&world, |file| {
            for group in &mut file.hosts {
                group.initially_on = Some(0);
            }
            file.hosts[0].initially_on = Some(1);
        }));
        check_episode(&changed(&world, |file| {
            file.objective.weights = Weights::from_array([0.0; 5]);
        }));
        check_episode(&changed(&world, |file| {
            file.objective.weights = Weights::from_array([0.0, 0.0, 0.0, 1e9, 0.0]);
            file.applications
                .iter_mut()
                .for_each(|a| a.deadline_s = 1e-3);
        }));
    }
}

#[test]
fn a_fleet_that_is_all_off_and_idle_can_be_encoded() {
    for world in worlds() {
        let world = changed(&world, |file| {
            file.hosts
                .iter_mut()
                .for_each(|group| group.initially_on = Some(0));
        });
        let state = State::new(&world);
        let observation = Observation::new(&world, &state, Epoch::Boundary);
        let mut loads = Loads::default();
        loads.observe(&observation);
        let decision = Decision::none();
        let context = Context {
            observation: &observation,
            loads: &loads,
            demand_mips: [0.0; 3],
            decision: &decision,
        };
        let mut encoded = Encoded::default();
        let question = [None, Some(HostId(0))];
        Encoder::new().encode(&context, &Question::Power(&question), &mut encoded);
        check(&encoded);
        assert_eq!(encoded.candidate_hosts, [NO_HOST, 0]);
    }
}

#[test]
fn what_was_encoded_before_does_not_matter() {
    let mut encoder = Encoder::new();
    for world in worlds() {
        let mut count = 0;
        episode(&world, 4, |context, question| {
            let (mut used, mut fresh) = (Encoded::default(), Encoded::default());
            encoder.encode(context, question, &mut used);
            Encoder::new().encode(context, question, &mut fresh);
            assert!(used == fresh, "question {count} differs");
            count += 1;
        });
    }
}

#[test]
fn features_do_not_tell_the_size_of_an_idle_fleet() {
    let [_, world] = worlds();
    let small = first_question(&world);
    let large = first_question(&changed(&world, |file| {
        file.hosts.iter_mut().for_each(|group| group.count *= 10);
    }));
    assert_eq!(large.host_count, 10 * small.host_count);
    for (a, b) in large.host(0).iter().zip(small.host(0)) {
        assert!((a - b).abs() < 1e-6, "{a} and {b}");
    }
    let position = |name| {
        GLOBAL_FEATURES
            .iter()
            .position(|n| *n == name)
            .expect("it is a name")
    };
    for name in [
        "share_on",
        "utilization_serving",
        "log1p_backlog_s",
        "boundary",
    ] {
        let (a, b) = (small.global[position(name)], large.global[position(name)]);
        assert!((a - b).abs() < 1e-6, "{name}: {a} and {b}");
    }
}

fn first_question(world: &World) -> Encoded {
    let mut first = None;
    episode(world, 1, |context, question| {
        if first.is_none() {
            let mut encoded = Encoded::default();
            Encoder::new().encode(context, question, &mut encoded);
            first = Some(encoded);
        }
    });
    first.expect("a boundary asks about power")
}

#[test]
fn the_greedy_answer_is_told_exactly_once() {
    for world in worlds() {
        let mut encoder = Encoder::new();
        let mut encoded = Encoded::default();
        episode(&world, 6, |context, question| {
            use twin::sequence::Chooser;
            encoder.encode(context, question, &mut encoded);
            let names = encoded.kind.features();
            let greedy = names
                .iter()
                .position(|n| *n == "greedy")
                .expect("each kind has it");
            let told: Vec<usize> = (0..encoded.candidate_count)
                .filter(|&i| encoded.candidate(i)[greedy] > 0.5)
                .collect();
            let answer = twin::policy::greedy::Greedy
                .choose(context, question)
                .expect("greedy always answers");
            let told: Vec<usize> = told.into_iter().map(|i| encoded.answer(i)).collect();
            assert_eq!(told, [answer], "{:?}", encoded.kind);
        });
    }
}

#[test]
fn the_hash_is_that_of_the_version_and_the_names() {
    // A change of this hash is a change of the encoding: raise ENCODING_VERSION with it, and fit
    // the committed models again.
    assert_eq!(ENCODING_VERSION, 1);
    assert_eq!(encoding_hash().len(), 64);
    for kind in Kind::ALL {
        assert_eq!(Kind::at(kind.index()), Some(kind));
        let mut names = kind.features().to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), kind.features().len(), "names are distinct");
    }
}

#[test]
fn the_hosts_of_least_penalty_are_candidates() {
    let [world, _] = worlds();
    let mut encoder = Encoder::new();
    let mut encoded = Encoded::default();
    let mut shortened = 0;
    episode(&world, 6, |context, question| {
        encoder.encode(context, question, &mut encoded);
        let Question::Place { candidates, .. } = question else {
            assert_eq!(encoded.candidate_count, question.len());
            return;
        };
        assert_eq!(encoded.candidate_count, candidates.len().min(MOST_PLACES));
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|&a, &b| candidates[a].1.penalty.total_cmp(&candidates[b].1.penalty));
        // The greedy choice may take the place of the last.
        for &answer in order.iter().take(MOST_PLACES - 1) {
            let candidate = encoded.candidate_of(answer).expect("it is a candidate");
            assert_eq!(encoded.answer(candidate), answer);
            assert_eq!(encoded.candidate_hosts[candidate], candidates[answer].0.0);
        }
        shortened += usize::from(candidates.len() > MOST_PLACES);
        let values: Vec<f64> = (0..candidates.len()).map(|i| i as f64).collect();
        for (value, &answer) in encoded
            .candidate_values(&values)
            .iter()
            .zip(&encoded.answers)
        {
            assert!((f64::from(*value) - f64::from(answer)).abs() < 1e-9);
        }
        assert!(encoded.candidate_values(&[f64::NEG_INFINITY])[0].is_nan());
    });
    assert!(shortened > 0, "some fragment has many hosts to choose from");
}
