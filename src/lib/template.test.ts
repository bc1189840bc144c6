import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compileTemplate } from './template.ts'

const data = { ID: 'abc', Names: ['a', 'b'], Labels: { x: '1', y: '2' }, N: 3, Zero: 0, Nil: null, S: { Running: true, Health: { Status: 'ok' } }, Label: (name: string) => `<${name}>` }

const cases: [string, string][] = [
  ['{{.ID}}', 'abc'],
  ['{{json .Names}} {{json .Labels}}', '["a","b"] {"x":"1","y":"2"}'],
  ['{{range .Names}}{{.}},{{end}}', 'a,b,'],
  ['{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}', 'x=1 y=2 '],
  ['{{range $i, $n := .Names}}{{if $i}}, {{end}}{{$n}}{{end}}', 'a, b'],
  ['{{if .S.Running}}up{{else}}down{{end}}', 'up'],
  ['{{if eq .N 1 2 3}}small{{end}}', 'small'],
  ['{{if and .S.Running (gt .N 2)}}yes{{else if .Zero}}no{{end}}', 'yes'],
  ['{{with .S.Health}}{{.Status}}{{end}}', 'ok'],
  ['{{with .Nil}}x{{else}}none{{end}}', 'none'],
  ['{{.Nil}}', '<no value>'],
  ['{{.Names}} {{.Labels}}', '[a b] map[x:1 y:2]'],
  ['{{upper .ID}} {{.ID | upper | printf "%5s|"}}', 'ABC   ABC|'],
  ['{{index .Labels "x"}}{{index .Names 1}}', '1b'],
  ['{{join .Names "+"}}', 'a+b'],
  ['{{(index .Names 0)}} {{len .Names}}', 'a 2'],
  ['{{ .ID }} \n {{- " x" -}} \n y', 'abc xy'],
  ['{{$x := .N}}{{$x}}{{/* nothing */}}', '3'],
  ['{{.Label "com.a"}}', '<com.a>'],
  ['{{println "a" 1}}', 'a 1\n'],
  ['{{slice .ID 0 2}}{{split "a,b" ","}}{{pad "x" 1 2}}|', 'ab[a b] x  |'],
  ['{{not .Zero}} {{or .Zero "d"}} {{title "foo bar"}}', 'true d Foo Bar'],
  ['{{range .Nil}}x{{else}}empty{{end}}', 'empty'],
  ['{{with $y := .S}}{{$y.Running}}{{end}}{{$.ID}}', 'trueabc'],
]

for (const [source, expected] of cases) test(`${source} is ${JSON.stringify(expected)}`, () => assert.equal(compileTemplate(source)(data), expected))

test('what is wrong with a template is said', () => {
  assert.throws(() => compileTemplate('{{.ID'), /unclosed action/)
  assert.throws(() => compileTemplate('{{foo .}}'), /function "foo" not defined/)
  assert.throws(() => compileTemplate('{{if .ID}}x'), /unexpected EOF/)
  assert.throws(() => compileTemplate('{{end}}'), /unexpected \{\{end\}\}/)
  assert.throws(() => compileTemplate('{{.Foo}}')(data), /map has no entry for key "Foo"/)
  assert.throws(() => compileTemplate('{{.ID.x}}')(data), /can't evaluate field x/)
})
