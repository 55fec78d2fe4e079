/**
 * Before the tests of a file, where a mutant has a server of its own: puts it in the place of the shared one, and makes
 * the templates that tests copy by the changed sources. Those of the global set-up come from the sources as they are.
 */
import { prepareTemplates } from '../support/prepare.js';
import { publishStack, testStack } from '../support/stack.js';
import { type OwnServer, VARIABLES } from './mutant.js';

const text = process.env[VARIABLES.server];
if (text !== undefined) {
  const own = JSON.parse(text) as OwnServer;
  const { controlTemplate, passwords } = testStack();
  // In this file's environment alone.
  publishStack({ ...testStack(), ...own });
  if ('postgresUrl' in own) beforeAll(() => prepareTemplates(own.postgresUrl, controlTemplate, passwords));
}
