//! All trials. kernel/tests/scenarios reads this too: what is listed there is what has to be heard of.

scenarios! {
    nics: [
        frames_of_every_length_come_back_as_they_were,
        frames_in_several_packets_come_back_whole,
        each_queue_begins_with_the_first_epoch,
        every_frame_that_circulates_is_accounted_for,
        a_device_refuses_what_it_cannot_send_or_be,
        frames_of_other_stations_are_received_by_who_wants_them,
        two_queues_share_the_frames_by_their_addresses,
        an_idle_port_waits_and_is_woken_by_a_frame,
        a_device_is_set_up_again_after_its_drivers_crash,
        a_storm_of_kills_under_traffic_loses_no_packet,
        a_mad_device_costs_frames_and_no_packets,
    ]
}
