-- JSON of core.io: what goes in comes out, integers stay integers, what cannot be said is refused.
-- Relies on perigee.core. Sources: lua/binding/io.c. Files have their specs in spec/io/.

local H = require "spec.helper"
local core = require "perigee.core"

local encode, decode = core.io.json_encode, core.io.json_decode

describe("json_encode", function()
  it("tells lists from objects and sorts keys", function()
    assert.equal("[1,2,[3]]", encode {1, 2, {3}})
    assert.equal('{"a":1,"b":{},"c":[]}', encode {c = core.io.array {}, b = {}, a = 1})
    assert.equal('[true,false,null,"x"]', encode {true, false, core.io.null, "x"})
    assert.equal("3", encode(3))
    assert.equal('{"1":"a"}', encode {["1"] = "a"})
  end)
  it("writes numbers so that they read back the same", function()
    for _, v in ipairs {0, -1, 9007199254740993, math.maxinteger, math.mininteger, 1.0, -0.0, 0.1,
      1 / 3, 1e300, 5e-324, 123456789.125, 1e15, 1e16, 2 ^ 53} do
      local back = decode(encode(v))
      assert.equal(v, back)
      assert.equal(math.type(v), math.type(back))
      assert.equal(1 / v, 1 / back)
    end
  end)
  it("escapes strings", function()
    assert.equal('"h\\"\\\\\\n\\u0001é"', encode "h\"\\\n\1é")
  end)
  it("refuses what JSON cannot say", function()
    H.raises(function() encode {1, 2, x = 3} end, "both positions and the key 'x'")
    H.raises(function() encode {1, nil, 3} end, "holes")
    H.raises(function() encode {[1.5] = 2} end, "string keys")
    H.raises(function() encode(0 / 0) end, "JSON has no")
    H.raises(function() encode {a = 1 / 0} end, "JSON has no inf")
    H.raises(function() encode(print) end, "JSON has no function")
    H.raises(function() encode "\xff" end, "not UTF%-8")
    H.raises(function() encode "a\0b" end, "zero byte")
    H.raises(function() encode {["\xff"] = 1} end, "key is not UTF%-8")
    H.raises(function() encode(core.tensor {1}) end, "JSON has no userdata")
    H.raises(function() encode() end, "value expected")
    local loop = {}
    loop.loop = loop
    H.raises(function() encode(loop) end, "deeper than 200 tables")
  end)
  it("goes 200 tables deep and no deeper", function()
    local value = 1
    for _ = 1, 200 do value = {value} end
    local text = encode(value)
    assert.equal(401, #text)
    assert.equal(text, encode(decode(text)))
    H.raises(function() encode {value} end, "deeper than")
    assert.is_nil((decode("[" .. text .. "]")))
  end)
end)

describe("json_decode", function()
  it("reads any JSON value", function()
    assert.same({a = {1, 2.5, "x", true}, b = {c = {}}}, decode
      ' { "a" : [1, 2.5, "x", true], "b" : {"c" : {}} } ')
    assert.equal(core.io.null, decode("[null]")[1])
    assert.equal("é\u{1F600}/", decode '"\\u00e9\\ud83d\\ude00\\/"')
    assert.equal("integer", math.type(decode "[3]"[1]))
    assert.equal("float", math.type(decode "[3.0]"[1]))
    assert.equal("float", math.type(decode "3e2"))
  end)
  it("keeps numbers apart from what looks like them in strings", function()
    assert.same({["-5"] = "12", k = '"7\\', n = -3, z = {1, "2", 3}},
      decode '{"-5":"12","k":"\\"7\\\\","n":-3,"z":[1,"2",3]}')
  end)
  it("gives nil and a message for what is none", function()
    for _, text in ipairs {"", " ", "[", "[1,]", "nul", "[1] x", "NaN", "{1:2}", "'a'", "\xff",
      '"\\u0000"', '"\\ud800"', '"a', "[1 2]", ("["):rep(5000)} do
      local value, message = decode(text)
      assert.is_nil(value)
      assert.matches("^JSON: ", message)
    end
    local _, message = decode '{"a":1,"b":{"c":1,"c":2}}'
    assert.equal("JSON: the key 'c' occurs twice", message)
  end)
end)
