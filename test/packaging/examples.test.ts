import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { projectRoot, sallyport } from '../support/command.ts';

for (const kind of ['relay', 'agent', 'gateway']) {
  test(`the example of ${kind}.yaml is a configuration, and its state is where its unit may write`, async () => {
    const value = parse(readFileSync(join(projectRoot, `packaging/examples/${kind}.yaml`), 'utf8')) as {
      state_dir: string;
      audit?: { spool_dir: string };
    };
    const { stdout } = await sallyport(['check', '--schema', kind]);
    const validate = new Ajv2020({ strict: false }).compile(JSON.parse(stdout) as object);
    assert.ok(validate(value), JSON.stringify(validate.errors));
    assert.equal(value.state_dir, `/var/lib/sallyport/${kind}`);
    if (value.audit !== undefined) assert.ok(value.audit.spool_dir.startsWith(`${value.state_dir}/`));
  });
}
