/** Which messages of PostgreSQL's are read, however the bytes of them come. */
import fc from 'fast-check';
import { withoutOversized } from '../../tenancy/postgres/oversized.js';

const LONGEST_ROW = 20;
const LONGEST_TEXT = 2 ** 20;

interface Message {
  readonly type: string;
  readonly length: number;
}
const bytesOf = ({ type, length }: Message): Buffer => {
  const bytes = Buffer.alloc(5 + length, 0x61);
  bytes.write(type, 'latin1');
  bytes.writeInt32BE(4 + length, 1);
  return bytes;
};
const isRead = ({ type, length }: Message): boolean =>
  type === 'D' ? 5 + length <= LONGEST_ROW : !'EN'.includes(type) || 5 + length <= LONGEST_TEXT;

/** What is read, with `row` in the place of each row that is left out. */
function readOf(bytes: Buffer, cuts: readonly number[]): string {
  const told: string[] = [];
  const read = withoutOversized({
    longestRow: LONGEST_ROW,
    read: (some) => told.push(some.toString('latin1')),
    onRow: () => told.push('<row>'),
  });
  const places = [0, ...[...cuts].sort((a, b) => a - b).filter((at) => at < bytes.length), bytes.length];
  for (let i = 1; i < places.length; i++) read(bytes.subarray(places[i - 1], places[i]));
  return told.join('');
}

const small = fc.record({
  type: fc.constantFrom('D', 'D', 'D', 'E', 'N', 'T', 'Z', 'C', '2'),
  length: fc.integer({ min: 0, max: 40 }),
});

test('all but rows that are too long are read, in order, wherever the stream is cut', () => {
  fc.assert(
    fc.property(fc.array(small), fc.array(fc.nat(400)), (messages, cuts) => {
      const expected = messages.map((m) => (isRead(m) ? bytesOf(m).toString('latin1') : '<row>')).join('');
      expect(readOf(Buffer.concat(messages.map(bytesOf)), cuts)).toBe(expected);
    }),
  );
});

test('an error that is too long is another one, and a notice is none', () => {
  const [row, done] = [bytesOf({ type: 'D', length: 1 }), bytesOf({ type: 'Z', length: 1 })];
  for (const [type, inItsPlace] of [
    ['E', /^E[\0-\xff]{4}SERROR\0VERROR\0C54000\0M[a-z ]{20,}\0\0$/],
    ['N', /^$/],
  ] as const) {
    const bytes = Buffer.concat([row, bytesOf({ type, length: LONGEST_TEXT }), done]);
    for (const cuts of [[], [8], [row.length + 3, 500_000], [bytes.length - 2]]) {
      const text = readOf(bytes, cuts);
      expect([text.startsWith(row.toString('latin1')), text.endsWith(done.toString('latin1'))]).toEqual([
        true,
        true,
      ]);
      expect(text.slice(row.length, -done.length)).toMatch(inItsPlace);
    }
  }
});
