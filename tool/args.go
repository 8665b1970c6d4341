package tool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// decode reads a call's arguments into a struct whose JSON tags are the tool's
// fields. It is strict where a guess could do harm (a field that does not
// exist, a missing one, a wrong type) and lenient where models slip and the
// meaning is plain: arguments given as a string that holds the object, a number
// or a boolean in quotes, null for "not given". Its errors are for the model and
// say what to send instead.
func decode(args json.RawMessage, into any, required ...string) error {
	known := fields(into)
	object, err := objectOf(args)
	if err != nil {
		return fmt.Errorf("the arguments are not a JSON object (%w); send an object with %s", err, known.list())
	}
	for name, value := range object {
		kind, ok := known.kind(name)
		switch {
		case !ok:
			return fmt.Errorf("there is no field %q; the fields are %s", name, known.list())
		case string(value) == "null":
			delete(object, name)
		default:
			object[name] = unquote(value, kind)
		}
	}
	for _, name := range required {
		if _, ok := object[name]; !ok {
			return fmt.Errorf("the field %q is missing; the fields are %s", name, known.list())
		}
	}
	whole, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return explain(json.Unmarshal(whole, into))
}

// objectOf reads an object, also one that came wrapped in a string.
func objectOf(args json.RawMessage) (map[string]json.RawMessage, error) {
	args = bytes.TrimSpace(args)
	if len(args) == 0 {
		return map[string]json.RawMessage{}, nil
	}
	var text string
	if args[0] == '"' && json.Unmarshal(args, &text) == nil {
		args = json.RawMessage(text)
	}
	object := map[string]json.RawMessage{}
	if err := json.Unmarshal(args, &object); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("at byte %d: %s", syntax.Offset, syntax.Error())
		}
		return nil, errors.New("it is another type")
	}
	if object == nil {
		object = map[string]json.RawMessage{}
	}
	return object, nil
}

// unquote takes a number, a boolean, a list or an object out of a string where
// such a one is wanted.
func unquote(value json.RawMessage, kind reflect.Kind) json.RawMessage {
	var text string
	if kind == reflect.String || len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &text) != nil {
		return value
	}
	if inner := json.RawMessage(strings.TrimSpace(text)); json.Valid(inner) {
		return inner
	}
	return value
}

// explain words a type error for the model.
func explain(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	return fmt.Errorf("the field %q must be %s, not %s", wrong.Field, typeName(wrong.Type), wrong.Value)
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}

// fieldSet is the JSON names of a struct's fields with their kinds, in order.
type fieldSet []reflect.StructField

func fields(of any) fieldSet {
	t := reflect.TypeOf(of).Elem()
	var set fieldSet
	for i := range t.NumField() {
		set = append(set, t.Field(i))
	}
	return set
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func (s fieldSet) kind(name string) (reflect.Kind, bool) {
	i := slices.IndexFunc(s, func(f reflect.StructField) bool { return jsonName(f) == name })
	if i < 0 {
		return reflect.Invalid, false
	}
	return s[i].Type.Kind(), true
}

func (s fieldSet) list() string {
	var names []string
	for _, f := range s {
		names = append(names, jsonName(f))
	}
	return strings.Join(names, ", ")
}
