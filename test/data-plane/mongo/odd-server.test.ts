/** A client that was handed on meets a server whose login is not one: a clear end, and nothing else goes with it. */
import { Binary, type Document } from 'mongodb';
import type { TenantId } from '../../../domain/ids.js';
import { testStack } from '../../support/stack.js';
import { openOddServer } from './support/odd-server.js';
import { contextOf, createTenantsBehindLink } from './support/tenants.js';

const binary = (text: string): Binary => new Binary(Buffer.from(text));
const nonceOf = ({ payload }: Document): string =>
  /r=([^,]+)/.exec((payload as Binary).toString())?.[1] ?? '';
const begin = (command: Document, salt = 'c2FsdA==', rounds = '4096') => ({
  conversationId: 1,
  done: false,
  payload: binary(`r=${nonceOf(command)}server,s=${salt},i=${rounds}`),
});

it.each<[string, (command: Document) => Document]>([
  ['nothing', () => ({})],
  ['a number', () => ({ conversationId: 1, payload: 7 })],
  [
    'no bytes but what would be taken for many',
    () => ({ conversationId: 1, payload: { length: 400_000_000 } }),
  ],
  ['null', () => ({ conversationId: 1, payload: null })],
  ['the nonce of another', () => ({ conversationId: 1, payload: binary('r=other,s=c2FsdA==,i=4096') })],
  ['that there is always more', (command) => begin(command)],
  [
    'no signature',
    (command) => ('saslContinue' in command ? { conversationId: 1, done: true } : begin(command)),
  ],
  [
    'a wrong signature',
    (command) =>
      'saslContinue' in command
        ? { conversationId: 1, done: true, payload: binary(`v=${Buffer.alloc(32).toString('base64')}`) }
        : begin(command),
  ],
  ['ever other salts', (command) => begin(command, Buffer.from(`${Math.random()}`).toString('base64'))],
  ['rounds without end', (command) => begin(command, 'c2FsdA==', '4000000000')],
])('that says %s', async (_, answer) => {
  const odd = await openOddServer(answer);
  const { link, tenants, close } = await createTenantsBehindLink();
  try {
    const [first, second] = (await tenants.make(2)) as [TenantId, TenantId];
    const pool = tenants.open({ maxClients: 1, serverSelectionMs: 2_000, socketTimeoutMs: 2_000 });
    const collectionOf = (id: TenantId) => pool.forTenant(contextOf(id)).collection('transcripts');
    await collectionOf(first).findOne({});
    link.leadTo(odd.url);
    const asked = [1, 2].map(() => collectionOf(second).findOne({}));
    for (const outcome of await Promise.allSettled(asked))
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'STORE_REFUSED' } });
    link.leadTo(testStack().mongoUrl);
    link.cut();
    expect(await collectionOf(first).findOne({})).toBeNull();
  } finally {
    link.leadTo(testStack().mongoUrl);
    odd.close();
    await close();
  }
});
