//! The scenarios, by module: the one list that the domain runs and that kernel/tests/scenarios expects to see run. Both
//! include this file, and each has a macro `scenarios` of its own.

scenarios! {
    calls: [
        a_call_returns_its_answer,
        a_chain_of_three_passes_calls_on,
        a_message_is_moved_and_not_copied,
        a_borrow_leaves_ownership_with_the_caller,
        a_deque_of_32_messages_moves_with_its_root,
        a_refusal_gives_the_argument_back,
        callers_on_all_cpus_get_their_own_answers,
    ]
    crashes: [
        a_panic_unwinds_to_the_caller_and_says_who_died_of_what,
        a_panic_deep_in_a_chain_reaches_each_level,
        a_caller_in_the_middle_can_handle_a_panic,
        a_call_into_a_dead_domain_fails_at_once,
        handles_follow_a_restart,
        a_restart_begins_with_pristine_data,
        a_domain_that_uses_up_its_stack_ends_alone,
        a_domain_that_leaves_the_kernel_no_stack_ends_alone,
        a_domain_may_come_back_by_itself,
        a_crash_loop_is_slowed_down_but_goes_on,
        a_panic_in_a_thread_of_its_own_ends_a_domain,
        a_killed_domain_lets_its_callers_go,
        a_borrowed_object_survives_its_reader,
        nobody_restarts_itself_or_a_stranger,
    ]
    leaks: [
        crashes_with_objects_held_leak_nothing,
        crashes_with_threads_and_callers_inside_leak_nothing,
        crashes_with_objects_handed_out_leak_nothing,
        kills_from_another_thread_leak_nothing,
        a_kill_at_any_instant_leaks_nothing,
    ]
    objects: [
        an_object_can_be_a_result,
        an_object_can_be_an_argument,
        an_object_comes_back_from_a_journey,
        an_object_is_dropped_at_home_with_its_last_handle,
        objects_of_the_dead_answer_with_an_error,
        an_object_outlives_its_caller_while_it_is_called,
    ]
    lending: [
        what_is_lent_comes_back_when_it_is_given_back,
        what_is_lent_comes_back_when_the_borrower_dies,
        what_a_dead_lender_lent_is_freed_when_given_back,
        a_claim_that_is_dropped_leaves_the_object_to_the_borrower,
        a_borrow_outlives_its_dead_owner_until_the_call_is_over,
    ]
    threads: [
        ten_thousand_threads_leave_nothing,
        a_thread_too_many_is_refused,
        threads_of_an_earlier_life_do_not_count,
        a_spinning_thread_starves_nobody,
        threads_that_wake_an_idle_cpu_together_both_run,
        a_more_urgent_thread_runs_first,
        threads_run_where_they_may,
        a_sleep_is_not_too_short,
        sleepers_wake_in_the_order_of_their_deadlines,
        blocked_threads_are_woken_in_order,
    ]
    memory: [
        a_large_private_allocation_is_whole,
        an_exhausted_private_heap_ends_its_domain_and_nothing_else,
        large_shared_objects_come_and_go,
        containers_free_what_they_hold,
        every_frame_has_an_owner,
        the_audit_accounts_for_every_frame,
        the_books_agree_while_everybody_works,
    ]
    quotas: [
        a_domain_that_hoards_is_refused_at_its_quota_and_ends_alone,
        what_was_refused_is_granted_when_something_was_freed,
        large_objects_and_handles_count_too,
        what_is_passed_on_and_freed_counts_for_nobody,
        a_receiver_that_hoards_does_not_starve_who_makes,
        who_is_given_too_much_gets_no_more,
        threads_on_all_cpus_together_get_nearly_all_of_a_quota,
        crashes_do_not_erode_the_quota,
    ]
    accounting: [
        calls_are_counted_exactly,
        cpu_time_is_charged_to_who_computes,
        threads_and_objects_are_counted,
        the_trace_shows_events_in_order,
        a_trace_that_is_off_stays_empty,
        a_domain_logs_under_its_name,
    ]
    storm: [
        a_kill_storm_hurts_nobody_else,
    ]
}
