//! The trials. kernel/tests/scenarios includes this file too and expects each of them on the console.

scenarios! {
    nics: [
        frames_of_every_length_come_back_unchanged,
        frames_in_several_packets_come_back_whole,
        each_queue_starts_with_the_first_epoch,
        every_circulating_frame_is_accounted_for,
        a_device_refuses_invalid_frames_and_configurations,
        frames_for_other_stations_are_received_only_if_configured,
        two_queues_share_the_frames_by_their_addresses,
        an_idle_client_waits_and_is_woken_by_a_frame,
        a_device_is_configured_again_after_its_drivers_crash,
        a_storm_of_kills_under_traffic_loses_no_packet,
        a_faulty_device_costs_frames_but_no_packets,
    ]
}
