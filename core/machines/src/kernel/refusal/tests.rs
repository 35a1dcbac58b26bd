use super::*;

/// The table of K395, as it stands in the specification.
const K395: &[(Class, &str)] = &[
    (
        Class::InvalidArgument,
        "required, bad_id, bad_name, bad_value, bad_json, bad_output, bad_pipeline, \
         bad_expression, unsupported_schema_keyword, too_long, too_large, too_many, too_deep, \
         amount_too_large, response_invalid, policy_not_allowed, wrong_agent",
    ),
    (Class::Unauthenticated, "unauthenticated"),
    (Class::PermissionDenied, "permission_denied, not_holder, quota_above_ceiling"),
    (
        Class::NotFound,
        "process_not_found, envelope_not_found, session_not_found, interrupt_not_found, \
         attempt_not_found, reservation_not_found, lease_not_found, dispatch_not_found, \
         service_not_found, no_runnable, no_handler",
    ),
    (
        Class::AlreadyExists,
        "submit_conflict, session_exists, service_exists, handler_exists, \
         reservation_conflict, dispatch_conflict",
    ),
    (
        Class::FailedPrecondition,
        "illegal_transition, process_terminal, process_not_terminal, parent_terminal, \
         force_required, interrupt_pending, interrupt_not_pending, interrupt_expired, \
         stale_target, approval_not_usable, attempt_closed, attempt_superseded, \
         reservation_closed, stale_lease, session_owns_envelope, envelope_in_use, aborted",
    ),
    (Class::Aborted, "version_conflict"),
    (Class::OutOfRange, "cursor_too_old, cursor_ahead"),
    (
        Class::ResourceExhausted,
        "quota_exceeded, rate_limited, process_limit, service_at_capacity, queue_full, \
         rate_table_full, slow_subscriber, overloaded, busy, disk_full",
    ),
    (
        Class::Unavailable,
        "draining, not_durable, service_unhealthy, circuit_open, handler_lost, worker_lost",
    ),
    (Class::DeadlineExceeded, "query_timeout, dispatch_timeout"),
    (Class::Internal, "internal"),
];

#[test]
fn the_codes_and_their_classes_are_those_of_k395() {
    let rows = K395
        .iter()
        .flat_map(|(class, codes)| codes.split(", ").map(move |code| (code.to_owned(), *class)));
    let ours = Code::ALL.iter().map(|code| (code.as_str().to_owned(), code.grpc()));
    assert_eq!(ours.collect::<Vec<_>>(), rows.collect::<Vec<_>>());
}

#[test]
fn classes_have_the_numbers_of_grpc() {
    let numbers = [
        (Class::InvalidArgument, 3),
        (Class::DeadlineExceeded, 4),
        (Class::NotFound, 5),
        (Class::AlreadyExists, 6),
        (Class::PermissionDenied, 7),
        (Class::ResourceExhausted, 8),
        (Class::FailedPrecondition, 9),
        (Class::Aborted, 10),
        (Class::OutOfRange, 11),
        (Class::Internal, 13),
        (Class::Unavailable, 14),
        (Class::Unauthenticated, 16),
    ];
    for (class, number) in numbers {
        assert_eq!(class.number(), number);
    }
}

#[test]
fn a_refusal_of_several_fields_tells_all_of_them() {
    let violation =
        |field: &str, text: &str| Violation { field: field.to_owned(), text: text.to_owned() };
    let fields = vec![violation("a", "a is required"), violation("b", "b: 3, at most 2")];
    let refusal = Refusal::of_fields(Code::BadPipeline, fields).about("pid", "p").retry_at(7);
    assert_eq!(refusal.to_string(), "bad_pipeline: a is required; b: 3, at most 2");
    assert_eq!(refusal.fields.len(), 2);
    assert_eq!(refusal.about, [("pid", "p".to_owned())]);
    assert_eq!(refusal.retry_at, Some(7));
    assert!(size_of::<Refusal>() <= 128, "it is returned by value");
}
