// Prints what AsyncAPI's own parser has to say about a document, a line each; it exits with 1 where there is an error.
import { createRequire } from 'node:module'
const [modules, file] = process.argv.slice(2)
const { Parser, fromFile } = createRequire(modules + '/')('@asyncapi/parser')
const { document, diagnostics } = await fromFile(new Parser(), file).parse()
for (const { severity, code, message, path } of diagnostics) console.log(severity, code, path.join('/'), message)
process.exit(document ? 0 : 1)
