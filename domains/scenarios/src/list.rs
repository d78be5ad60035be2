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
    faults: [
        each_kind_of_panic_ends_its_domain_and_says_where,
        each_cpu_exception_ends_its_domain_and_says_where,
        each_way_to_use_up_a_stack_ends_its_domain,
        each_way_to_run_out_of_memory_ends_its_domain,
        faults_with_all_kinds_of_belongings_leak_nothing,
        a_fault_in_a_chain_names_the_callers,
        faults_on_all_cpus_at_once_hurt_nobody_else,
        faults_during_kills_hurt_nobody_else,
        a_thread_at_the_end_of_its_stack_stops_nobody,
        a_caller_that_leaves_its_callee_no_stack_is_refused,
        a_domain_that_fails_at_its_start_comes_back,
        a_destructor_that_panics_ends_its_own_domain,
        a_middle_link_dies_by_an_exception_while_its_thread_is_elsewhere,
        an_obituary_outlives_a_storm_of_crashes,
        crashes_by_the_thousand_are_each_remembered,
        a_post_mortem_shows_what_came_before,
    ]
    hangs: [
        a_call_that_takes_too_long_ends_its_callee_alone,
        a_call_in_time_is_left_alone,
        a_hang_of_the_most_urgent_threads_on_all_cpus_ends,
        who_waits_for_one_that_hangs_is_not_blamed,
        two_domains_deadlocked_on_each_other_are_parted,
        a_wait_in_the_kernel_ends_with_who_called_it,
        a_call_that_waits_in_the_kernel_for_too_long_ends,
        a_start_that_hangs_holds_nobody_up,
        a_destructor_that_hangs_holds_nobody_up,
        hangs_leak_nothing,
        calls_that_return_around_their_deadline_harm_nobody,
        a_core_at_rest_does_not_tick,
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
        objects_are_dropped_by_the_thousand_while_clocks_tick,
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
    locks: [
        a_lock_held_for_a_dead_caller_is_released,
        a_lock_is_released_when_the_holders_callee_dies,
        a_lock_dies_with_its_domain,
    ]
    threads: [
        ten_thousand_threads_leave_nothing,
        a_thread_too_many_is_refused,
        threads_of_an_earlier_life_do_not_count,
        a_spinning_thread_starves_nobody,
        threads_that_wake_an_idle_cpu_together_both_run,
        a_more_urgent_thread_runs_first,
        an_urgent_thread_gets_a_lock_that_a_less_urgent_one_holds,
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
        who_uses_up_the_machines_memory_ends_nobody_else,
    ]
    accounting: [
        calls_are_counted_exactly,
        cpu_time_is_charged_to_who_computes,
        who_computes_alone_is_charged_as_it_does,
        a_domain_whose_threads_use_more_than_their_share_ends,
        clients_do_not_use_a_servers_share_up,
        threads_and_objects_are_counted,
        the_trace_shows_events_in_order,
        a_trace_that_is_off_stays_empty,
        a_domain_logs_under_its_name,
    ]
    shadows: [
        a_shadow_hides_a_crash,
        clients_of_a_shadow_notice_no_crash,
        a_call_that_cannot_be_repeated_fails_with_its_life,
        a_new_life_is_told_in_order_what_the_last_one_was_told,
        nobody_reaches_a_life_before_its_configuration,
        no_client_sees_an_unconfigured_answer,
        a_crash_during_a_replay_begins_it_anew,
        a_log_keeps_the_latest_call_where_that_is_enough,
        a_shadow_of_the_dead_answers_with_an_error_in_time,
        a_shadow_that_dies_while_it_recovers_leaks_nothing,
    ]
    supervision: [
        a_domain_that_waits_for_its_restart_says_until_when,
        a_parent_is_told_when_a_child_keeps_crashing,
        a_child_that_is_given_up_stays_dead_and_callers_hear_at_once,
        a_child_whose_parent_begins_anew_is_forgiven,
        an_escalation_ends_the_parent_and_brings_all_back,
        an_escalation_goes_up_two_levels,
        a_parent_that_does_not_answer_is_ended_and_holds_up_nobody,
        a_parent_that_crashes_when_it_is_told_takes_nobody_else_along,
        the_end_of_a_child_concerns_the_child_alone,
        orphans_end_with_their_parent_and_come_back_by_their_policies,
        nobody_lives_without_a_parent,
        quotas_of_children_come_out_of_their_parents,
        a_child_does_not_start_while_its_parent_has_its_share,
        a_family_is_whole_after_crashes_in_any_order,
    ]
    revocation: [
        who_gives_up_what_it_is_asked_for_lives_on,
        who_gives_it_up_late_but_in_time_lives_on,
        who_keeps_it_is_ended,
        who_never_answers_is_ended,
        who_crashes_when_it_is_asked_ends_of_that,
        a_demand_ends_with_the_life_it_was_made_of,
        a_demand_that_another_one_covers_is_not_made_twice,
        who_was_given_too_much_is_found_by_the_census,
        cpu_time_can_be_revoked,
    ]
    blocks: [
        blocks_are_read_as_they_were_written,
        a_disk_refuses_what_it_cannot_do,
        a_full_queue_refuses_the_rest,
        a_queue_belongs_to_one_thread,
        requests_survive_the_crash_of_their_driver,
        two_queues_of_a_disk_recover_by_themselves,
        what_comes_during_an_outage_is_answered_after_it,
        a_flush_waits_for_what_came_before_it_also_after_a_crash,
        a_crash_at_each_step_of_a_recovery_begins_it_anew,
        a_request_without_an_answer_is_asked_for_again,
        a_disk_that_is_gone_says_so_in_time,
        requests_come_back_when_their_shadow_dies,
        a_client_that_dies_with_requests_under_way_leaks_nothing,
        clients_of_a_disk_notice_no_crash_of_its_driver,
        driver_and_shadow_that_die_together_lose_nothing,
    ]
    storm: [
        a_kill_storm_hurts_nobody_else,
    ]
}
