// Builds the Debian package from this checkout, as `npm ci` left it, without the network. The same checkout and
// SOURCE_DATE_EPOCH make the same bytes (docs/adr/0039).
//   node tools/build-deb.mjs -o FILE
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { buildIfChanged } from './build.mjs';
import { copyModules, productionModules } from './production-modules.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const SERVICES = ['relay', 'agent', 'gateway'];
/** Of package.json `files`, what the program reads at run time. */
const PROGRAM = ['bin', 'dist', 'migrations', 'policies', 'verifier'];
const NOT_SHIPPED = /\.map$|\/built-from$|\/__pycache__$|^verifier\/tests$/;
const FOLDER = 'usr/lib/sallyport';
const DOC = 'usr/share/doc/sallyport';
/** Day and time of everything in a package that is built without SOURCE_DATE_EPOCH: 2026-01-01. */
const DEFAULT_EPOCH = 1_767_225_600;

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

const fail = (message) => {
  process.stderr.write(`build-deb: ${message}\n`);
  process.exit(2);
};

const put = (stage, path, text, mode = 0o644) => {
  const file = join(stage, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  chmodSync(file, mode);
};

/** Every path below the folder, sorted, folders before what is in them. */
const pathsBelow = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .map((entry) => ({ path: join(entry.parentPath, entry.name), entry }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));

const putProgram = (stage) => {
  for (const name of PROGRAM) {
    cpSync(join(root, name), join(stage, FOLDER, name), {
      recursive: true,
      filter: (from) => !NOT_SHIPPED.test(relative(root, from)),
    });
  }
  put(stage, `${FOLDER}/package.json`, readFileSync(join(root, 'package.json')));
  const modules = productionModules(root);
  copyModules(root, modules, join(stage, FOLDER));
  mkdirSync(join(stage, 'usr/bin'), { recursive: true });
  symlinkSync('../lib/sallyport/bin/sallyport', join(stage, 'usr/bin/sallyport'));
  return modules;
};

const putServices = async (stage) => {
  const { unitText } = await import('../dist/cli/service/unit.js');
  for (const name of SERVICES) {
    const unit = unitText({
      name,
      node: '/usr/bin/node',
      program: '/usr/bin/sallyport',
      config: `/etc/sallyport/${name}.yaml`,
      needsLowPorts: false,
      writable: [],
    });
    put(stage, `usr/lib/systemd/system/sallyport-${name}.service`, unit);
    const hint = `# Empty: sallyport-${name} does not start with it. /${DOC}/examples/${name}.yaml shows what may stand here.\n`;
    put(stage, `etc/sallyport/${name}.yaml`, hint);
  }
};

const putForShells = (stage, epoch) => {
  const say = (...args) =>
    execFileSync(process.execPath, [join(stage, FOLDER, 'bin/sallyport'), ...args], {
      env: { ...process.env, SOURCE_DATE_EPOCH: String(epoch) },
      maxBuffer: 16 * 1024 ** 2,
    });
  put(stage, 'usr/share/bash-completion/completions/sallyport', say('completion', 'bash'));
  put(stage, 'usr/share/zsh/vendor-completions/_sallyport', say('completion', 'zsh'));
  put(stage, 'usr/share/fish/vendor_completions.d/sallyport.fish', say('completion', 'fish'));
  put(stage, 'usr/share/man/man1/sallyport.1.gz', gzipSync(say('manual'), { level: 9 }));
};

const putDocuments = (stage, modules) => {
  cpSync(join(root, 'docs'), join(stage, DOC, 'docs'), { recursive: true });
  cpSync(join(root, 'packaging/examples'), join(stage, DOC, 'examples'), { recursive: true });
  put(stage, `${DOC}/README.md`, readFileSync(join(root, 'README.md')));
  put(stage, `${DOC}/changelog.gz`, gzipSync(readFileSync(join(root, 'CHANGELOG.md')), { level: 9 }));
  const parts = modules.map(({ path, name, version, license }) => `${name} ${version}: ${license} (${path})`);
  const text = [
    `sallyport ${manifest.version} is licensed under ${manifest.license}: /usr/share/common-licenses/Apache-2.0.`,
    '',
    `Below /${FOLDER} are also these packages, each with its own licence in its folder:`,
    ...parts,
    '',
  ].join('\n');
  put(stage, `${DOC}/copyright`, text);
};

const control = (bytes) => `Package: sallyport
Version: ${manifest.version.replace('-', '~')}
Architecture: all
Maintainer: The Sallyport authors <sallyport@localhost>
Installed-Size: ${Math.ceil(bytes / 1024)}
Depends: nodejs (>= ${manifest.engines.node.replace('>=', '')}), passwd
Suggests: postgresql, man-db
Section: net
Priority: optional
Description: policy-and-audit gateway for hybrid connections
 An application reaches one named TCP service inside a private network that
 accepts no inbound connection. Rego decides on the private side who may open a
 stream; each decision and each stream leaves signed evidence in PostgreSQL.
 .
 Brings relay, agent and gateway with a systemd unit each, and the sallyport
 command. The embedded PostgreSQL of "sallyport up" is not part of it.
`;

const putControl = (stage) => {
  const files = pathsBelow(stage).filter(({ entry }) => entry.isFile());
  const bytes = files.reduce((sum, { path }) => sum + statSync(path).size, 0);
  const sums = files.map(({ path }) => {
    const sum = createHash('md5').update(readFileSync(path)).digest('hex');
    return `${sum}  ${relative(stage, path)}\n`;
  });
  put(stage, 'DEBIAN/control', control(bytes));
  put(stage, 'DEBIAN/md5sums', sums.join(''));
  put(stage, 'DEBIAN/conffiles', SERVICES.map((name) => `/etc/sallyport/${name}.yaml\n`).join(''));
  for (const script of ['postinst', 'prerm', 'postrm'])
    put(stage, `DEBIAN/${script}`, readFileSync(join(root, 'packaging/debian', script)), 0o755);
};

/** Modes and times that do not depend on who builds, where and when. */
const settle = (stage, epoch) => {
  chmodSync(stage, 0o755);
  for (const { path, entry } of pathsBelow(stage).reverse()) {
    if (!entry.isSymbolicLink()) {
      const isProgram =
        path === join(stage, FOLDER, 'bin/sallyport') || dirname(path) === join(stage, 'DEBIAN');
      const isRun = isProgram && (statSync(path).mode & 0o100) !== 0;
      chmodSync(path, entry.isDirectory() || isRun ? 0o755 : 0o644);
    }
    lutimesSync(path, epoch, epoch);
  }
  lutimesSync(stage, epoch, epoch);
};

const build = async (output) => {
  const epoch = Number(process.env.SOURCE_DATE_EPOCH ?? DEFAULT_EPOCH);
  if (!Number.isSafeInteger(epoch) || epoch < 0)
    fail(
      `SOURCE_DATE_EPOCH is whole seconds since 1970, not ${JSON.stringify(process.env.SOURCE_DATE_EPOCH)}`,
    );
  await buildIfChanged();
  const stage = mkdtempSync(join(tmpdir(), 'sallyport-deb-'));
  try {
    const modules = putProgram(stage);
    await putServices(stage);
    putForShells(stage, epoch);
    putDocuments(stage, modules);
    putControl(stage);
    settle(stage, epoch);
    // One thread: how xz cuts its blocks depends on their number.
    execFileSync(
      'dpkg-deb',
      ['--root-owner-group', '--threads-max=1', '-Zxz', '-z2', '--build', stage, output],
      {
        env: { ...process.env, SOURCE_DATE_EPOCH: String(epoch) },
        stdio: ['ignore', 'ignore', 'inherit'],
      },
    );
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
};

const [option, output] = process.argv.slice(2);
if (option !== '-o' || output === undefined) fail('usage: node tools/build-deb.mjs -o FILE');
await build(resolve(output));
