import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import request, { type Response } from 'supertest';
import type { Control, ControlOptions, LiveState } from '../../src/control/index.ts';
import { controlFixture, type Fixture, liveStateOf } from './control-fixture.ts';

export interface KeyWithText {
  readonly key_id: string;
  readonly connection: string | null;
  readonly auth_rule: string;
  readonly slot: 'primary' | 'secondary';
  readonly key: string;
  readonly connection_string: string;
}

type Method = 'get' | 'post' | 'patch' | 'delete';

export interface Api {
  readonly url: string;
  readonly ownerToken: string;
  /** A call with the owner's token, or with another. */
  call(method: Method, path: string, body?: object, options?: CallOptions): Promise<Response>;
  /** Creates a connection and returns its four keys. */
  create(name: string): Promise<readonly KeyWithText[]>;
}

export interface CallOptions {
  readonly token?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A management listener over a node; closed with the test. */
export const openApi = async (
  t: TestContext,
  control: Control,
  live: LiveState = liveStateOf(),
): Promise<Api> => {
  const { token } = await control.ensureOwnerToken('test');
  const server = await control.createManagementServer({ listen: '127.0.0.1:0', live, version: '0.0.0' });
  t.after(() => server.close());
  const call: Api['call'] = async (method, path, body, options = {}) => {
    const made = request(server.url)
      [method](`/api/v1${path}`)
      .set('Authorization', `Bearer ${options.token ?? token}`);
    for (const [name, value] of Object.entries(options.headers ?? {})) void made.set(name, value);
    return body === undefined ? made : made.send(body);
  };
  return {
    url: server.url,
    ownerToken: token,
    call,
    async create(name) {
      const created = await call('post', '/connections', {
        name,
        target: { host: 'db.internal', port: 5432 },
      });
      assert.equal(created.status, 201, JSON.stringify(created.body));
      return (created.body as { keys: KeyWithText[] }).keys;
    },
  };
};

export const keyOf = (keys: readonly KeyWithText[], rule: string, slot = 'primary'): KeyWithText => {
  const found = keys.find((key) => key.auth_rule === rule && key.slot === slot);
  assert.ok(found, `${rule} ${slot}`);
  return found;
};

/** A node, its database and its management listener. */
export const apiFixture = async (
  t: TestContext,
  postgres: { createDatabase(): Promise<string> },
  options: { live?: LiveState; control?: Partial<ControlOptions> } = {},
): Promise<Fixture & { api: Api }> => {
  const fixture = await controlFixture(t, postgres, options.control);
  return { ...fixture, api: await openApi(t, fixture.control, options.live) };
};
