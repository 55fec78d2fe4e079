/** Work side by side that is over, all of it, when it comes back. */
import fc from 'fast-check';
import { settled } from '../../domain/settled.js';

test('it gives the values in the order of the list, whichever came first', async () => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), fc.array(fc.anything()), async (scheduler, values) => {
      const result = settled(values.map((value) => scheduler.schedule(Promise.resolve({ value }))));
      await scheduler.waitAll();
      expect((await result).map((one) => one.value)).toEqual(values);
    }),
  );
});

test('a failure comes back only when nothing is going on any more, and it is the first of the list', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      fc.array(fc.boolean(), { minLength: 1 }).filter((fails) => fails.includes(true)),
      async (scheduler, fails) => {
        let under = fails.length;
        const work = fails.map(async (fail, i) => {
          await scheduler.schedule(Promise.resolve(), String(i));
          under -= 1;
          if (fail) throw new Error(String(i));
        });
        const seen = settled(work).then(
          () => 'no failure',
          (error: Error) => [under, error.message],
        );
        await scheduler.waitAll();
        expect(await seen).toEqual([0, String(fails.indexOf(true))]);
      },
    ),
  );
});

test('values that are undefined or errors are values', async () => {
  const error = new Error('a value');
  expect(await settled([Promise.resolve(undefined), Promise.resolve(error), Promise.resolve('x')])).toEqual([
    undefined,
    error,
    'x',
  ]);
  expect(await settled([])).toEqual([]);
});
