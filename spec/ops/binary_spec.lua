local H = require "spec.helper"

H.fixtures("binary")
