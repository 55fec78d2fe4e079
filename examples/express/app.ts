/** A support desk on the data plane: one application for all tenants, and no tenant's id anywhere in its code. */
import { randomUUID } from 'node:crypto';
import express, { type Express } from 'express';
// In a product: from 'tenantry'.
import { currentTenant, header, subdomain, tenancyProblems, type Tenantry } from '../../tenancy/index.js';

export function createSupportDesk(tenantry: Tenantry): Express {
  const app = express();
  // Whichever of the two a request names; both, and they must agree.
  app.use(tenantry.tenancy({ resolve: [subdomain('desk.example'), header('x-tenant')] }));
  app.use(express.json());

  app.post('/customers', async (request, response) => {
    const { email, name } = request.body as { email: string; name: string };
    const { pg, tenantId } = currentTenant();
    const { rows } = await pg.query<{ id: string }>(
      `INSERT INTO app.customers (tenant_id, id, email, name, created_at)
       VALUES ($1, $2, $3, $4, now()) RETURNING id`,
      [tenantId, randomUUID(), email, name],
    );
    response.status(201).json(rows[0]);
  });

  // No WHERE tenant_id: the policies of the table say it.
  app.get('/customers', async (_request, response) => {
    const { rows } = await currentTenant().pg.query(
      'SELECT id, email, name FROM app.customers ORDER BY email',
    );
    response.json(rows);
  });

  app.post('/conversations/:id/transcripts', async (request, response) => {
    const { text } = request.body as { text: string };
    const transcripts = currentTenant().mongo.collection('transcripts');
    await transcripts.insertOne({ conversationId: request.params.id, text, createdAt: new Date() });
    response.status(201).end();
  });

  app.get('/conversations/:id/transcripts', async (request, response) => {
    const transcripts = currentTenant().mongo.collection('transcripts');
    response.json(await transcripts.find({ conversationId: request.params.id }).toArray());
  });

  app.post('/visits', async (_request, response) => {
    response.json({ visits: await currentTenant().redis.namespace('rate').incr('visits') });
  });

  app.use(tenancyProblems());
  return app;
}
