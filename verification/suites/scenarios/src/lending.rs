//! Objects that a callee may hold past the call.

use alloc::sync::Arc;

use crate::stage::{Outcome, Stage, ensure, ensure_eq, message, sum};

pub(crate) fn what_is_lent_comes_back_when_it_is_given_back(stage: &Arc<Stage>) -> Outcome {
    let own = stage.own()?.shared_objects;
    let lent = message(b"lent");
    let address = lent.address();
    let (claim, lent) = lent.lend();
    stage.keeper.keep(lent)?;
    ensure!(!claim.is_back(), "it is back at once");
    let Err(claim) = claim.redeem() else {
        ensure!(false, "a claim is redeemed while the borrower holds the object");
        return Ok(());
    };
    ensure_eq!(stage.own()?.shared_objects, own, "our objects while it is lent");
    ensure_eq!(stage.keeper.stamp(b'x')?, 1, "kept messages");
    ensure_eq!(stage.keeper.give_back()?, 1, "messages given back");
    let Ok(back) = claim.redeem() else {
        ensure!(false, "what was given back is not back");
        return Ok(());
    };
    ensure_eq!(back.address(), address, "address");
    ensure_eq!(back[..], b"xxxx"[..], "what the borrower wrote");
    ensure_eq!(stage.own()?.shared_objects, own + 1, "our objects");
    Ok(())
}

pub(crate) fn what_is_lent_comes_back_when_the_borrower_dies(stage: &Arc<Stage>) -> Outcome {
    let rounds = stage.rounds(50, 20);
    stage.leaks_nothing(rounds, |round| {
        let texts = [[b'a'; 3], [b'b'; 3], [b'c'; 3]];
        let mut claims = alloc::vec::Vec::new();
        for text in texts {
            let (claim, lent) = message(&text).lend();
            stage.keeper.keep(lent)?;
            claims.push((claim, text));
        }
        let stamped = round % 2 == 0;
        if stamped {
            stage.keeper.stamp(b'z')?;
        }
        stage.kill("keeper")?;
        for (claim, text) in claims {
            let Ok(back) = claim.redeem() else {
                ensure!(false, "what a dead borrower had is not back");
                return Ok(());
            };
            ensure_eq!(back[..], if stamped { [b'z'; 3] } else { text }[..], "content");
            // It is an object like any other again.
            ensure_eq!(stage.echo.sum(&back)?, sum(&back), "sum");
        }
        stage.restart("keeper")
    })
}

pub(crate) fn what_a_dead_lender_lent_is_freed_when_given_back(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(50, 20), |round| {
        let answer = stage.subject.lend(4)?;
        ensure!(answer.is_ok(), "the keeper died of a loan: {answer:?}");
        stage.restart("subject")?;
        // The borrower may go on with it.
        ensure_eq!(stage.keeper.stamp(b'y')?, 4, "messages that the keeper has");
        if round % 2 == 0 {
            ensure_eq!(stage.keeper.give_back()?, 4, "messages given back to nobody");
            Ok(())
        } else {
            stage.restart("keeper")
        }
    })
}

pub(crate) fn a_claim_that_is_dropped_leaves_the_object_to_the_borrower(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(50, 20), |_| {
        let (claim, lent) = message(b"given away after all").lend();
        stage.keeper.keep(lent)?;
        drop(claim);
        ensure_eq!(stage.keeper.stamp(b'!')?, 1, "messages that the keeper has");
        ensure_eq!(stage.keeper.give_back()?, 1, "messages given back to nobody");
        Ok(())
    })
}

pub(crate) fn a_borrow_outlives_its_dead_owner_until_the_call_is_over(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(30, 10), |_| {
        stage.restart("keeper")?;
        stage.subject.read_late()?;
        stage.eventually("the call stays", || Ok(stage.keeper.pending_calls()? == 1))?;
        let subject = stage.info("subject")?.id;
        stage.kill("subject")?;
        ensure_eq!(stage.keeper.pending_calls()?, 1, "calls after the caller's end");
        stage.restart("subject")?;
        ensure!(stage.info("subject")?.id != subject, "the new instance has the old one's name");
        ensure_eq!(
            stage.subject.count()?,
            1,
            "the new instance while a thread of the old one is still abroad"
        );
        // On all CPUs somebody writes to whatever is free.
        stage.all_together(stage.cpus, |_, _| {
            drop([(); 200].map(|()| message(&[0xff; 256])));
            Ok(())
        })?;
        stage.keeper.let_go()?;
        stage.eventually("the call is over", || Ok(stage.keeper.latest_sum()?.is_some()))?;
        let read = sum(b"what a subject wants read");
        ensure_eq!(stage.keeper.latest_sum()?, Some(read), "the sum of a dead domain's message");
        Ok(())
    })
}
