import assert from 'node:assert/strict';
import { cpSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../support/command.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, dial, echo, readToEnd } from '../support/sockets.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { startUp } from '../support/up.ts';

const opaMissing =
  process.env.SALLYPORT_OPA === undefined && !existsSync(join(projectRoot, '.tools/opa'))
    ? 'missing OPA (node tools/build-policy-tools.mjs builds it)'
    : false;

const publishRule = (name: string): string => `
# METADATA
# title: ${name} may be published
# custom: {id: ${name}-publish, owner: test@example.com, ticket: none, expires: never}
publish["${name}"] contains rego.metadata.rule()
`;

/** Far more work than the budget of a decision, in constant memory. */
const ALLOW = `# METADATA
# title: Rules of the fault tests
package sallyport.allow

import data.sallyport.request
${publishRule('good')}${publishRule('slow')}
# METADATA
# title: Everybody to good
# custom: {id: good-stream, owner: test@example.com, ticket: none, expires: never}
stream["good"] contains rego.metadata.rule()

# METADATA
# title: Never decided in time
# custom: {id: slow-stream, owner: test@example.com, ticket: none, expires: never}
stream["slow"] contains rego.metadata.rule() if {
	input.key.principal == "defaultSender"
	many := {i | some i in numbers.range(1, 20000)}
	some i in many
	some j in many
	i < j
	j < i
}
`;

test('a policy that does not come to an end denies its own streams and holds up no others', {
  skip: opaMissing,
}, async (t) => {
  const target = await echo(t);
  const directory = join(temporaryDirectory(t, 'policy'), 'policies');
  cpSync(join(projectRoot, 'policies'), directory, {
    recursive: true,
    filter: (source) => !/\/(dist|vectors)(\/|$)|development\.rego$/.test(source),
  });
  writeFileSync(join(directory, 'sallyport/allow/faults.rego'), ALLOW);
  const up = await startUp(t, {
    publish: { good: `127.0.0.1:${target.port}`, slow: `127.0.0.1:${target.port}` },
    args: ['--policy', directory],
  });
  assert.equal(await askOnce(t, up.listenOf('good'), 'hello'), 'hello');

  // The first one tells the engine which kind of stream this is; from then on it has one evaluator at most.
  const first = readToEnd(dial(t, up.listenOf('slow')));
  assert.equal(await askOnce(t, up.listenOf('good'), 'beside the first'), 'beside the first');
  assert.equal((await first).how, 'ECONNRESET');
  const slow = Array.from({ length: 4 }, () => readToEnd(dial(t, up.listenOf('slow'))));
  for (let i = 0; i < 20; i++) assert.equal(await askOnce(t, up.listenOf('good'), `${i}`), `${i}`);
  for (const end of await Promise.all(slow)) {
    assert.equal(end.how, 'ECONNRESET');
    assert.equal(end.bytes.length, 0);
  }
  const decisions = await eventually('the denials are recorded', async () => {
    const rows = await up.rows<{ decided_by: string; canonical: Buffer }>(
      "select decided_by, canonical from audit.event where connection = 'slow' and type = 'stream.decision'",
    );
    return rows.length > 0 ? rows : undefined;
  });
  for (const row of decisions) {
    assert.equal(row.decided_by, 'engine');
    assert.match(row.canonical.toString('utf8'), /"reason":"policy_(timeout|overload)"/);
  }
  assert.equal(await askOnce(t, up.listenOf('good'), 'afterwards'), 'afterwards');
});
