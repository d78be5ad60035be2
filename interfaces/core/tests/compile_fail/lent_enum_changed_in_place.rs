use coppice_rref::{Flat, Lent, Shareable};

#[derive(Shareable, Flat)]
enum State {
    Idle,
    Busy(bool),
}

fn change(state: &mut Lent<State>) {
    **state = State::Busy(true);
}

fn main() {}
