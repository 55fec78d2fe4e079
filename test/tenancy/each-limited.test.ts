/** A bounded number at once; and the middle of what a benchmark measured. */
import fc from 'fast-check';
import { eachLimited } from '../../activities/each-limited.js';
import { figure, inTurn, median } from '../../bench/harness.js';

test('never more than the limit are under way, as many as may be are, and results are in the order of the items', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      fc.array(fc.boolean(), { maxLength: 20 }),
      fc.integer({ min: 1, max: 8 }),
      async (scheduler, fails, limit) => {
        let [under, most] = [0, 0];
        const begun: number[] = [];
        const running = eachLimited([...fails.entries()], limit, async ([index, fail]) => {
          begun.push(index);
          under += 1;
          most = Math.max(most, under);
          await scheduler.schedule(Promise.resolve());
          under -= 1;
          if (fail) throw new Error(String(index));
          return index;
        });
        await scheduler.waitFor(running);
        expect(most).toBe(Math.min(limit, fails.length));
        expect(begun).toEqual([...fails.keys()]);
        expect(await running).toEqual(
          fails.map((fail, index) =>
            fail
              ? { status: 'rejected', reason: new Error(String(index)) }
              : { status: 'fulfilled', value: index },
          ),
        );
      },
    ),
  );
});

test('a failure does not keep the rest from being worked on', async () => {
  const done: number[] = [];
  const results = await eachLimited([1, 2, 3, 4], 1, async (item) => {
    if (item === 1) throw new Error('first');
    done.push(item);
  });
  expect(done).toEqual([2, 3, 4]);
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled', 'fulfilled']);
});

test('nothing to do is nothing done', async () => {
  const work = jest.fn(async () => undefined);
  expect(await eachLimited([], 4, work)).toEqual([]);
  expect(work).not.toHaveBeenCalled();
});

const samples = fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 30 });

test('as many samples lie below the median as above it', () => {
  fc.assert(
    fc.property(samples, (values) => {
      const middle = median(values);
      const half = values.length / 2;
      expect(values.filter((value) => value < middle).length).toBeLessThanOrEqual(half);
      expect(values.filter((value) => value > middle).length).toBeLessThanOrEqual(half);
    }),
  );
  expect([median([3]), median([4, 1]), median([9, 1, 5]), median([1, 100, 2, 3])]).toEqual([3, 2.5, 5, 2.5]);
  // As numbers, not as text.
  expect(median([10, 9, 100])).toBe(10);
});

test('the median of nothing is not a number', () => {
  expect(median([])).toBeNaN();
});

test('the order of the samples makes no difference to a figure, and they stay as they are', () => {
  fc.assert(
    fc.property(samples, (values) => {
      const before = [...values];
      const made = figure(values);
      expect(values).toEqual(before);
      expect(figure(values.toReversed())).toEqual(made);
      expect(made.min).toBeLessThanOrEqual(made.value);
      expect(made.value).toBeLessThanOrEqual(made.max);
      expect(values).toEqual(expect.arrayContaining([made.min, made.max]));
    }),
  );
});

test('a figure has its goal only when it was given one', () => {
  expect(figure([2, 1], { is: '<=', value: 3 })).toEqual({
    value: 1.5,
    min: 1,
    max: 2,
    goal: { is: '<=', value: 3 },
  });
  expect(figure([1])).toEqual({ value: 1, min: 1, max: 1 });
});

test('sides are measured in turn, every other round backwards', async () => {
  const order: string[] = [];
  const side = (name: string) => async (round: number) => {
    order.push(`${name}${round}`);
    return round;
  };
  expect(await inTurn(3, { a: side('a'), b: side('b') })).toEqual({ a: [0, 1, 2], b: [0, 1, 2] });
  expect(order).toEqual(['a0', 'b0', 'b1', 'a1', 'a2', 'b2']);
});
