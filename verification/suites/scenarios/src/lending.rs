//! Lent objects, which a callee may hold past the call.

use alloc::sync::Arc;

use crate::context::{Context, Outcome, ensure, ensure_eq, message, sum};

pub(crate) fn a_lent_object_comes_back_when_the_borrower_returns_it(context: &Arc<Context>) -> Outcome {
    let own = context.own()?.shared_objects;
    let lent = message(b"lent");
    let address = lent.address();
    let (claim, lent) = lent.lend();
    context.holder.keep(lent)?;
    ensure!(!claim.is_back(), "the loan is back at once");
    let Err(claim) = claim.redeem() else {
        ensure!(false, "a loan was redeemed while the borrower holds the object");
        return Ok(());
    };
    ensure_eq!(context.own()?.shared_objects, own, "own objects while one is lent");
    ensure_eq!(context.holder.stamp(b'x')?, 1, "kept messages");
    ensure_eq!(context.holder.give_back()?, 1, "messages returned");
    let Ok(back) = claim.redeem() else {
        ensure!(false, "a returned object is not back");
        return Ok(());
    };
    ensure_eq!(back.address(), address, "address");
    ensure_eq!(back[..], b"xxxx"[..], "the borrower's bytes");
    ensure_eq!(context.own()?.shared_objects, own + 1, "own objects");
    Ok(())
}

pub(crate) fn a_lent_object_comes_back_after_the_borrowers_crash(context: &Arc<Context>) -> Outcome {
    let rounds = context.rounds(50, 20);
    context.leaks_nothing(rounds, |round| {
        let texts = [[b'a'; 3], [b'b'; 3], [b'c'; 3]];
        let mut claims = alloc::vec::Vec::new();
        for text in texts {
            let (claim, lent) = message(&text).lend();
            context.holder.keep(lent)?;
            claims.push((claim, text));
        }
        let stamped = round % 2 == 0;
        if stamped {
            context.holder.stamp(b'z')?;
        }
        context.kill("holder")?;
        for (claim, text) in claims {
            let Ok(back) = claim.redeem() else {
                ensure!(false, "the object of a dead borrower is not back");
                return Ok(());
            };
            ensure_eq!(back[..], if stamped { [b'z'; 3] } else { text }[..], "content");
            // It is an ordinary object again.
            ensure_eq!(context.echo.sum(&back)?, sum(&back), "sum");
        }
        context.restart("holder")
    })
}

pub(crate) fn an_object_of_a_dead_lender_is_freed_when_it_is_returned(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(50, 20), |round| {
        let answer = context.fault_target.lend(4)?;
        ensure!(answer.is_ok(), "the holder died of a loan: {answer:?}");
        context.restart("fault-target")?;
        // The borrower may continue to use it.
        ensure_eq!(context.holder.stamp(b'y')?, 4, "messages of the holder");
        if round % 2 == 0 {
            ensure_eq!(context.holder.give_back()?, 4, "messages returned without a lender");
            Ok(())
        } else {
            context.restart("holder")
        }
    })
}

pub(crate) fn a_dropped_loan_leaves_the_object_to_the_borrower(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(50, 20), |_| {
        let (claim, lent) = message(b"given away after all").lend();
        context.holder.keep(lent)?;
        drop(claim);
        ensure_eq!(context.holder.stamp(b'!')?, 1, "messages of the holder");
        ensure_eq!(context.holder.give_back()?, 1, "messages returned without a lender");
        Ok(())
    })
}

pub(crate) fn a_borrow_outlives_its_dead_owner_until_the_call_ends(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(30, 10), |_| {
        context.restart("holder")?;
        context.fault_target.read_late()?;
        context.eventually("the call stays", || Ok(context.holder.pending_calls()? == 1))?;
        let fault_target = context.info("fault-target")?.id;
        context.kill("fault-target")?;
        ensure_eq!(context.holder.pending_calls()?, 1, "calls after the caller's end");
        context.restart("fault-target")?;
        ensure!(
            context.info("fault-target")?.id != fault_target,
            "the new instance has the id of the old one"
        );
        ensure_eq!(
            context.fault_target.count()?,
            1,
            "the new instance while a thread of the old one is in another domain"
        );
        // Threads on all CPUs write to memory that is free.
        context.on_threads(context.cpus, |_, _| {
            drop([(); 200].map(|()| message(&[0xff; 256])));
            Ok(())
        })?;
        context.holder.let_go()?;
        context.eventually("the call is over", || Ok(context.holder.latest_sum()?.is_some()))?;
        let read = sum(b"a borrowed message");
        ensure_eq!(context.holder.latest_sum()?, Some(read), "the sum of a dead domain's message");
        Ok(())
    })
}
