//! Which events go into one request, and which requests may go at once (pure).

use std::collections::HashMap;
use std::hash::Hash;

/// Requests in waves: those of a wave may go at once, a wave follows the one before. Each
/// request holds positions in `keys`, in order, `batch` at most. Events of the same key are
/// never in two requests of one wave and keep their order; events without a key follow nobody.
pub(super) fn arrange<K: Copy + Eq + Hash>(
    keys: &[Option<K>],
    batch: usize,
) -> Vec<Vec<Vec<usize>>> {
    let positions: Vec<usize> = (0..keys.len()).collect();
    let mut waves: Vec<Vec<Vec<usize>>> = Vec::new();
    let mut last: HashMap<K, usize> = HashMap::new();
    for request in positions.chunks(batch.max(1)) {
        let own = || request.iter().filter_map(|at| keys.get(*at).copied().flatten());
        let wave = own().filter_map(|key| last.get(&key)).max().map_or(0, |before| before + 1);
        for key in own() {
            last.insert(key, wave);
        }
        if waves.len() <= wave {
            waves.resize(wave + 1, Vec::new());
        }
        if let Some(wave) = waves.get_mut(wave) {
            wave.push(request.to_vec());
        }
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_of_one_delivery_follow_each_other() {
        let keys = [Some(1), Some(2), Some(1), None, Some(2), Some(1)];
        let waves = arrange(&keys, 1);
        assert_eq!(waves, [vec![vec![0], vec![1], vec![3]], vec![vec![2], vec![4]], vec![vec![5]]]);
        assert_eq!(arrange(&keys, 6), [[[0, 1, 2, 3, 4, 5]]]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_order_of_each_key_is_kept(
            keys in prop::collection::vec(prop::option::of(0..6_u8), 0..60), batch in 1..10_usize,
        ) {
            let waves = arrange(&keys, batch);
            let mut all: Vec<usize> = waves.iter().flatten().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..keys.len()).collect::<Vec<_>>());
            for key in 0..6_u8 {
                let mut told: Vec<usize> = Vec::new();
                for wave in &waves {
                    let holders: Vec<_> = wave
                        .iter()
                        .filter(|request| request.iter().any(|at| keys[*at] == Some(key)))
                        .collect();
                    prop_assert!(holders.len() <= 1, "two requests at once for one delivery");
                    told.extend(holders.into_iter().flatten().copied().filter(|at| keys[*at] == Some(key)));
                }
                prop_assert!(told.is_sorted());
            }
            prop_assert!(waves.iter().flatten().all(|request| request.len() <= batch));
        }
    }
}
