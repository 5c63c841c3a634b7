//! The twin against a bare kernel of heaps, task by task, on the workload of `benches/peers`.

#[path = "../../benches/peers/driver.rs"]
mod driver;
#[path = "../../benches/peers/kernel.rs"]
mod kernel;
#[path = "../../benches/peers/tasks.rs"]
mod tasks;

use tasks::{Shape, Task};

use crate::statistics::at_most;

/// The largest difference that is allowed, relative to the time of completion: the twin's times
/// are whole nanoseconds.
const TOLERANCE: f64 = 1e-6;

fn largest_difference(shape: Shape, found_s: &[f64], expected_s: &[f64]) -> f64 {
    assert_eq!(found_s.len(), shape.tasks as usize);
    found_s
        .iter()
        .zip(expected_s)
        .map(|(found_s, expected_s)| {
            assert!(found_s.is_finite() && expected_s.is_finite());
            (found_s - expected_s).abs() / expected_s
        })
        .fold(0.0, f64::max)
}

#[test]
fn the_kernel_shares_by_hand() {
    let shape = Shape {
        hosts: 1,
        cores: 2,
        tasks: 4,
        seed: 0,
    };
    let second = 1_000_000_000;
    let tasks = [(0, 1.0), (0, 2.0), (0, 3.0), (10 * second, 0.5)]
        .map(|(arrival_ns, work_s)| Task { arrival_ns, work_s });
    // Three tasks on two cores run at 2/3 each: the first ends at 1 / (2/3) = 1.5. The others then
    // have a core each: the second, with 2 - 1 left, at 2.5, the third, with 3 - 1, at 3.5. The
    // fourth is alone from 10 on.
    let expected_s = [1.5, 2.5, 3.5, 10.5];
    for simulate in [kernel::together, kernel::apart] {
        let mut ends_s = [f64::NAN; 4];
        simulate(shape, &tasks, &mut ends_s);
        assert!(
            largest_difference(shape, &ends_s, &expected_s) < 1e-15,
            "{ends_s:?}"
        );
    }
}

#[test]
fn the_twin_and_the_kernel_complete_each_task_at_the_same_time() {
    let shape = Shape {
        hosts: 16,
        cores: 8,
        tasks: 10_000,
        seed: 1,
    };
    let tasks: Vec<Task> = shape.generate().collect();
    let arrivals: Vec<_> = (0..)
        .zip(&tasks)
        .map(|(index, &task)| driver::arrival(shape, index, task))
        .collect();
    let world = driver::world(shape).expect("the world is valid");
    let [mut twin_s, mut together_s, mut apart_s] = [0; 3].map(|_| vec![f64::NAN; tasks.len()]);
    let qos = driver::run(&world, &arrivals, &mut twin_s).expect("the policy decides");
    kernel::together(shape, &tasks, &mut together_s);
    kernel::apart(shape, &tasks, &mut apart_s);
    for (name, found_s) in [("together", &together_s), ("apart", &apart_s)] {
        let largest = largest_difference(shape, found_s, &twin_s);
        let what = format!("bare kernel, hosts {name}, 10,000 tasks: ends of tasks");
        at_most(largest, TOLERANCE, &what);
    }
    // The accounts are on: the fleet is busy for the work of all tasks, and every response is in.
    assert_eq!(qos.requests_completed, 10_000);
    let work_s: f64 = tasks.iter().map(|t| t.work_s).sum();
    let core_s = qos.duration_s * 16.0 * 8.0;
    assert!((qos.utilization_mean - work_s / core_s).abs() < 1e-6);
    let response_s: f64 = tasks
        .iter()
        .zip(&twin_s)
        .map(|(task, end_s)| end_s - task.arrival_ns as f64 / 1e9)
        .sum();
    assert!((qos.response_mean_s - response_s / 10_000.0).abs() < 1e-9);
    assert!(qos.response_p99_s > qos.response_p50_s && qos.energy_wh > 0.0);
}
