/** The login's arithmetic, against the example of RFC 7677 and against servers that are not what they say. */
import { converse, SaltedPassword } from '../../../tenancy/mongo/scram.js';

const NONCE = 'rOprNGfwEbeRWgbNEkqO';
const SERVER_FIRST = 'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096';
const SERVER_FINAL = 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=';

const begin = () => converse('user', new SaltedPassword('pencil'), NONCE);

it('says what RFC 7677 says', async () => {
  const conversation = begin();
  expect(conversation.first).toBe('n,,n=user,r=rOprNGfwEbeRWgbNEkqO');
  const answer = await conversation.answer(SERVER_FIRST);
  expect(answer.final).toBe(
    'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
  );
  answer.check(SERVER_FINAL);
});

it('does not believe a server that does not know the password', async () => {
  const answer = await begin().answer(SERVER_FIRST);
  for (const said of ['', 'v=', 'e=other-error', `v=${Buffer.alloc(32).toString('base64')}`])
    expect(() => answer.check(said)).toThrow('does not know the password');
});

it.each([
  ['the nonce of another login', SERVER_FIRST.replace('rOpr', 'rOps')],
  ['no nonce of its own', `r=${NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`],
  ['too few rounds', SERVER_FIRST.replace('4096', '4095')],
  ['rounds without end', SERVER_FIRST.replace('4096', '4000000000')],
  ['no salt', SERVER_FIRST.replace('W22ZaJ0SNY7soEsUEjb6gQ==', '')],
  ['a salt without end', SERVER_FIRST.replace('W22Z', 'W22Z'.repeat(1_000))],
  ['no number of rounds', SERVER_FIRST.replace('4096', '')],
])('ends before the proof when the server has %s', async (_, said) => {
  await expect(begin().answer(said)).rejects.toThrow('the server');
});

it('a user name keeps what SCRAM has a meaning for', () => {
  expect(converse('a=b,c', new SaltedPassword('p'), 'x').first).toBe('n,,n=a=3Db=2Cc,r=x');
});

it('a password is salted once for each salt', async () => {
  const password = new SaltedPassword('pencil');
  const first = password.keys('c2FsdA==', 4_096);
  expect(password.keys('c2FsdA==', 4_096)).toBe(first);
  const other = password.keys('b3RoZXI=', 4_096);
  expect((await other).client).not.toEqual((await first).client);
});
