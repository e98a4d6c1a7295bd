//! The oracle is no better than its tables: here it is held against what the verifier lets happen.

use std::time::Duration;

use keyward::key::{Environment, PresentedKey};
use keyward::verifier::{Attempt, Requirement};

use super::asked::near;
use crate::common::{Choices, actor, clock, now, tenant};
use crate::t21_powers::{
    ADDRESSES, Deeds, KINDS, Powers, SCOPES, THINGS, fixture, second_of, start,
};

#[test]
fn the_oracle_agrees_with_the_verifier() {
    let fixture = fixture(clock());
    let start = start(&fixture);
    let environments = ["test", "sandbox"].map(|name| Environment::new(name).unwrap());
    let mut choices = Choices::new(2_130);
    let (mut done, mut denied) = (0, 0);
    for _ in 0..3_000 {
        let loose = Powers {
            environment: Some(choices.below(2)),
            ..Powers::unlimited()
        };
        let powers = near(&mut choices, &loose);
        fixture.clock.set(start);
        fixture.keyward.forget_future_ends().unwrap();
        let key = powers.new_key(tenant(), start);
        let issued = now(fixture.keyward.manager().issue(&actor(), key)).unwrap();
        // In the order of time: a key that was seen expired stays so.
        let mut seconds = [(); 8].map(|()| choices.below(41));
        seconds.sort_unstable();
        for bit in seconds {
            let [route, things, place, address] = [5, 9, 2, 5].map(|bound| choices.below(bound));
            let second = second_of(u32::try_from(bit).unwrap());
            fixture.clock.set(start + Duration::from_secs(second));
            let need = match SCOPES.get(route) {
                Some(scope) => Requirement::scope(scope.clone()),
                None => Requirement::full_access(),
            };
            let need = need.resource(KINDS[0]).resource(KINDS[1]);
            let attempt = Attempt::new(PresentedKey::text(issued.api_key().expose()), &need)
                .environment(&environments[place])
                .client(ADDRESSES[address].parse().unwrap())
                .resource(KINDS[0], THINGS[things % 3])
                .resource(KINDS[1], THINGS[things / 3]);
            let is_done = now(fixture.keyward.verifier().verify(&attempt)).is_ok();
            // One request at a time, of which quotas let the first happen.
            let touched = 1 << (things % 3) | 0b1000 << (things / 3);
            let deed = [
                1 << route,
                1 << place,
                touched,
                1 << address,
                1 << bit,
                1,
                1,
            ];
            assert_eq!(
                powers.deeds().hold(&Deeds(deed)),
                is_done,
                "{powers:?}: {deed:?}"
            );
            *(if is_done { &mut done } else { &mut denied }) += 1;
        }
    }
    assert!(
        done > 1_000 && denied > 1_000,
        "{done} done, {denied} denied"
    );
}
