/** Random choices that a seed repeats: each job of each actor has a sequence of its own, whatever the others do. */

export interface Random {
  /** An integer from 0 up to, and without, `bound`. */
  below(bound: number): number;
  chance(probability: number): boolean;
  pick<T>(list: readonly T[]): T;
  /** By its weight. */
  weighted<T extends { readonly weight: number }>(list: readonly T[]): T;
  /** Version 4. */
  uuid(): string;
}

/** Of the same numbers the same sequence. */
export function randomFrom(...seed: readonly number[]): Random {
  let state = seed.reduce((mixed, number) => scramble(mixed ^ scramble(number + 0x9e3779b9)), 0x6d2b79f5);
  /** mulberry32: 2^32 values, more than any job draws. */
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (bound: number): number => Math.floor(next() * bound);
  return {
    below,
    chance: (probability) => next() < probability,
    pick: (list) => at(list, below(list.length)),
    weighted(list) {
      let left = next() * list.reduce((sum, { weight }) => sum + weight, 0);
      return list.find(({ weight }) => (left -= weight) < 0) ?? at(list, list.length - 1);
    },
    uuid() {
      const digits = Array.from({ length: 32 }, () => below(16).toString(16));
      digits[12] = '4';
      digits[16] = (8 + below(4)).toString(16);
      return digits.join('').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
    },
  };
}

function at<T>(list: readonly T[], index: number): T {
  if (index >= list.length || index < 0) throw new RangeError('nothing to choose from');
  return list[index] as T;
}

/** The finaliser of MurmurHash3. */
function scramble(number: number): number {
  let bits = Math.imul(number ^ (number >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return bits ^ (bits >>> 16);
}
