/**
 * SCRAM-SHA-256 (RFC 5802, RFC 7677) on the client's side. The driver does each hash as a job of another thread, which costs
 * several times the hash, and salts the password of a tenant that comes back again: 15,000 rounds.
 */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { MongoRuntimeError } from 'mongodb';

export interface Conversation {
  readonly first: string;
  /** Of the server's first message. @throws MongoRuntimeError when it is not an answer to ours */
  answer(serverFirst: string): Promise<Answer>;
}

export interface Answer {
  readonly final: string;
  /** @throws MongoRuntimeError when the server does not know the password itself */
  check(serverFinal: string): void;
}

interface Keys {
  readonly client: Buffer;
  readonly server: Buffer;
}

/** A password with what it comes to under the salt that the server has for it. */
export class SaltedPassword {
  readonly plain: string;
  #salting = '';
  #keys: Promise<Keys> | undefined;

  /** @param plain printable ASCII, as ours are: SASLprep (RFC 4013) leaves it as it is */
  constructor(plain: string) {
    if (!/^[\x21-\x7e]+$/.test(plain)) throw new TypeError('a password that is not printable ASCII');
    this.plain = plain;
  }

  keys(salt: string, rounds: number): Promise<Keys> {
    const salting = `${rounds}/${salt}`;
    if (this.#keys === undefined || this.#salting !== salting) {
      this.#salting = salting;
      this.#keys = deriveKeys(this.plain, salt, rounds);
    }
    return this.#keys;
  }
}

export function converse(
  username: string,
  password: SaltedPassword,
  nonce = randomBytes(24).toString('base64'),
): Conversation {
  const bare = `n=${username.replaceAll('=', '=3D').replaceAll(',', '=2C')},r=${nonce}`;
  return {
    first: `n,,${bare}`,
    async answer(serverFirst) {
      const { r: bothNonces = '', s: salt = '', i = '' } = fieldsOf(serverFirst);
      const rounds = Number(i);
      if (!bothNonces.startsWith(nonce) || bothNonces === nonce)
        throw new MongoRuntimeError('the server answered another login than this one');
      if (!Number.isInteger(rounds) || rounds < MIN_ROUNDS || rounds > MAX_ROUNDS)
        throw new MongoRuntimeError(`the server asks for ${i} rounds`);
      if (salt === '' || salt.length > MAX_SALT)
        throw new MongoRuntimeError('the server has a salt that is none');
      const keys = await password.keys(salt, rounds);
      const withoutProof = `c=${NO_CHANNEL_BINDING},r=${bothNonces}`;
      const conversation = `${bare},${serverFirst},${withoutProof}`;
      const proof = xor(keys.client, hmac(sha256(keys.client), conversation));
      const signature = hmac(keys.server, conversation);
      return {
        final: `${withoutProof},p=${proof.toString('base64')}`,
        check(serverFinal) {
          const said = Buffer.from(fieldsOf(serverFinal)['v'] ?? '', 'base64');
          if (said.length !== signature.length || !timingSafeEqual(said, signature))
            throw new MongoRuntimeError('the server does not know the password that it asked for');
        },
      };
    },
  };
}

/** RFC 7677. */
const MIN_ROUNDS = 4_096;
/** A server, or who pretends to be one, must not keep our processors busy at will: some 200 ms. */
const MAX_ROUNDS = 1_000_000;
/** In base64. It is kept with the password; servers have 28 bytes. */
const MAX_SALT = 1_024;
/** `n,,` in base64. */
const NO_CHANNEL_BINDING = 'biws';

const derive = promisify(pbkdf2);

async function deriveKeys(password: string, salt: string, rounds: number): Promise<Keys> {
  const salted = await derive(password, Buffer.from(salt, 'base64'), rounds, 32, 'sha256');
  return { client: hmac(salted, 'Client Key'), server: hmac(salted, 'Server Key') };
}

const hmac = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();
const xor = (left: Buffer, right: Buffer): Buffer =>
  Buffer.from(left.map((byte, position) => byte ^ (right[position] ?? 0)));

/** `r=abc,s=def==` */
const fieldsOf = (message: string): Record<string, string | undefined> =>
  Object.fromEntries(message.split(',').map((field) => [field.slice(0, 1), field.slice(2)]));
