import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { projectRoot, sallyport } from '../support/command.ts';
import { createDeployment } from '../support/deployment.ts';
import { echo } from '../support/sockets.ts';

/** Commands of the page that are shown for their answer: they exit 1 when it is no. */
const ANSWERS_NO: ReadonlySet<string> = new Set(['apply -f shop.yaml --dry-run']);
/** The other deployment is made by test/e2e/two-nodes.test.ts, the other site by test/audit/import.test.ts. */
const ELSEWHERE = /^init deploy |^audit (site|import|trust|verify) /;

interface Listed {
  readonly key_id: string;
  readonly auth_rule: string;
  readonly slot: string;
  readonly state: string;
}

const page = readFileSync(join(projectRoot, 'docs/operations.md'), 'utf8');

const blocks = (language: string): string[] =>
  [...page.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].flatMap(([, tag, text]) =>
    tag === language && text !== undefined ? [text] : [],
  );

/** Words of a shell line: quotes and one redirection are all that the page uses. */
const wordsOf = (line: string): { args: string[]; input: string | undefined } => {
  const [command = '', input] = line.replace(/\s+#.*$/, '').split(/\s+<\s+/);
  const args = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
  return { args: args.slice(1), input: input?.trim() };
};

test('every command of docs/operations.md, in the order of the page, in a deployment', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  await deployment.startAll();
  const { directory } = deployment;
  const env = {
    SALLYPORT_ADMIN_URL: deployment.adminUrl,
    SALLYPORT_ADMIN_TOKEN_FILE: join(directory, 'owner.token'),
  };
  const [shop, managed] = blocks('yaml');
  writeFileSync(join(directory, 'shop.yaml'), shop ?? '');
  writeFileSync(join(directory, 'managed.yaml'), managed ?? '');
  const json = async <T>(...args: string[]): Promise<T> => {
    const ran = await sallyport(['--json', ...args], { cwd: directory, env });
    assert.equal(ran.code, 0, ran.stderr);
    return JSON.parse(ran.stdout) as T;
  };
  /** A key of the connection that lives, which is what the page's example id stands for. */
  const liveKey = async (): Promise<string> => {
    const keys = await json<Listed[]>('key', 'list', '--connection', 'orders');
    const found = keys.find(({ auth_rule, state }) => auth_rule === 'defaultSender' && state === 'active');
    assert.ok(found, 'a live key of orders');
    return found.key_id;
  };

  const lines = blocks('').flatMap((text) =>
    text.split('\n').filter((line) => line.startsWith('sallyport ')),
  );
  assert.ok(lines.length >= 20, `${lines.length} commands on the page`);
  let token = '';
  let revoked = '';
  for (const line of lines) {
    const { args, input } = wordsOf(line);
    const text = args.join(' ');
    if (ELSEWHERE.test(text)) continue;
    if (text.includes('k_0123456789abcdef0123') && revoked === '') revoked = await liveKey();
    // A revoked key shows nothing any more: the page goes on with another.
    const keyId = args[1] === 'disclose' ? await liveKey() : revoked;
    const ready = args.map((word) =>
      word
        .replace('http://127.0.0.1:9350', deployment.adminUrl)
        .replace('k_0123456789abcdef0123', keyId)
        .replace('t_0123456789abcdef', token)
        .replace('$AUDIT_URL', deployment.databaseUrl),
    );
    if (input !== undefined) {
      const found = await json<{ connection_string: string }>('key', 'disclose', await liveKey());
      writeFileSync(join(directory, input), found.connection_string);
    }
    const ran = await sallyport(ready, {
      cwd: directory,
      env,
      ...(input === undefined ? {} : { input: readFileSync(join(directory, input), 'utf8') }),
    });
    assert.equal(ran.code, ANSWERS_NO.has(text) ? 1 : 0, `${line}\n${ran.stdout}${ran.stderr}`);
    if (args[0] === 'token' && args[1] === 'create') {
      const tokens = await json<{ id: string; label: string }[]>('token', 'list');
      token = tokens.find(({ label }) => label === 'ci')?.id ?? '';
    }
  }
});
