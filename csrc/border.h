// The border between Python and C++, the same for both modules: structs by name.
//   Python hands over addresses and sizes. A struct comes as a dict of its members, and is bound by a list of
//   them, each beside its name; nothing is told apart by its place, where two addresses that changed places
//   would corrupt memory without a word. A name that is missing, misspelt or too much raises TypeError.
// Dicts and no pybind11 classes: an object costs several times as much, which a call on a few rows would feel.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "embeddings.h"
#include "search_filter.h"

namespace pyhbt::border {

namespace py = pybind11;
using Address = std::uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// One of the values of an enum, under the name that it has in Python.
template <typename Enum>
struct Choice {
  const char* name;
  Enum value;
};

template <typename Enum, size_t kCount>
std::vector<std::string> names_of(const Choice<Enum> (&choices)[kCount]) {
  std::vector<std::string> names;
  for (const Choice<Enum>& choice : choices) names.emplace_back(choice.name);
  return names;
}

inline std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

template <typename Enum, size_t kCount>
Enum chosen(const char* what, const std::string& name, const Choice<Enum> (&choices)[kCount]) {
  for (const Choice<Enum>& choice : choices)
    if (name == choice.name) return choice.value;
  throw std::invalid_argument(std::string(what) + ": found '" + name + "', expected one of " +
                              joined(names_of(choices)));
}

// The table of dtypes: pyhbt/ops/dtypes.py reads the names from the module.
constexpr Choice<DType> kDTypes[] = {
    {"float32", DType::kFloat32}, {"float16", DType::kFloat16}, {"bfloat16", DType::kBFloat16}};

// All members of a struct, which read one from a dict.
template <typename Struct>
class Members;

// A member of a struct: its name in Python, and how it takes the value that Python gives.
template <typename Struct>
struct Member {
  const char* name;
  std::function<void(Struct&, py::handle)> take;
};

// Given as the address of its first number; 0 is a null pointer.
template <typename Struct, typename T>
Member<Struct> address(const char* name, T* Struct::* member) {
  return {name, [member](Struct& out, py::handle given) { out.*member = at<T>(given.cast<Address>()); }};
}

// Given as it is: a number or a truth value.
template <typename Struct, typename T>
Member<Struct> value(const char* name, T Struct::* member) {
  return {name, [member](Struct& out, py::handle given) { out.*member = given.cast<T>(); }};
}

// Given by the name of a choice.
template <typename Struct, typename Enum, size_t kCount>
Member<Struct> choice(const char* name, Enum Struct::* member, const Choice<Enum> (&choices)[kCount]) {
  return {name, [name, member, &choices](Struct& out, py::handle given) {
            out.*member = chosen(name, given.cast<std::string>(), choices);
          }};
}

// A struct in the struct, given as a dict.
template <typename Struct, typename T, typename Part>
Member<Struct> part(const char* name, T Struct::* member, const Members<Part>& members) {
  return {name, [member, &members](Struct& out, py::handle given) {
            out.*member = members.read(given.cast<py::dict>());
          }};
}

// The same, or None, which leaves it as it is by default.
template <typename Struct, typename T, typename Part>
Member<Struct> part_or_none(const char* name, T Struct::* member, const Members<Part>& members) {
  return {name, [member, &members](Struct& out, py::handle given) {
            if (!given.is_none()) out.*member = members.read(given.cast<py::dict>());
          }};
}

template <typename Struct>
class Members {
 public:
  Members(const char* of, std::initializer_list<Member<Struct>> members) : of_(of) {
    for (const Member<Struct>& member : members)
      keyed_.push_back({PyUnicode_InternFromString(member.name), member});
  }

  Struct read(const py::dict& given) const {
    Struct filled{};
    for (const Keyed& keyed : keyed_) {
      const py::handle found = PyDict_GetItemWithError(given.ptr(), keyed.key);
      if (!found) refuse("found no " + std::string(keyed.member.name));
      take(keyed.member, found, filled);
    }
    if (given.size() != keyed_.size()) refuse_unknown(given);
    return filled;
  }

  // For Python to compare with what it gives.
  void show_names(py::dict structs) const { structs[of_] = py::tuple(py::cast(names())); }

 private:
  struct Keyed {
    PyObject* key;  // the name as Python keeps it, for ever: looking it up costs little
    Member<Struct> member;
  };

  void take(const Member<Struct>& member, py::handle given, Struct& filled) const {
    try {
      member.take(filled, given);
    } catch (const py::cast_error&) {
      throw py::type_error(std::string(of_) + ": " + member.name + ": found " +
                           py::repr(given).cast<std::string>() + ", expected another type");
    }
  }

  [[noreturn]] void refuse_unknown(const py::dict& given) const {
    for (const auto& item : given) {
      bool known = false;
      for (const Keyed& keyed : keyed_) known = known || item.first.equal(py::handle(keyed.key));
      if (!known) refuse("found " + py::repr(item.first).cast<std::string>());
    }
    refuse("found more members than it has");
  }

  [[noreturn]] void refuse(const std::string& found) const {
    throw py::type_error(std::string(of_) + ": " + found + ", expected " + joined(names()));
  }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const Keyed& keyed : keyed_) names.emplace_back(keyed.member.name);
    return names;
  }

  const char* of_;  // the name of the struct
  std::vector<Keyed> keyed_;
};

// What both modules take.

inline const Members<Embeddings>& matrix() {
  static const Members<Embeddings> members("Matrix", {
                                                         address("address", &Embeddings::data),
                                                         choice("dtype", &Embeddings::dtype, kDTypes),
                                                         value("rows", &Embeddings::rows),
                                                         value("dim", &Embeddings::dim),
                                                         value("stride", &Embeddings::stride),
                                                     });
  return members;
}

inline const Members<SearchFilter>& filter() {
  static const Members<SearchFilter> members(
      "Filter", {
                    address("allowed", &SearchFilter::allowed),
                    address("passage_partitions", &SearchFilter::passage_partitions),
                    address("pools", &SearchFilter::pools),
                    value("num_partitions", &SearchFilter::num_partitions),
                    address("excluded", &SearchFilter::excluded),
                    value("excluded_per_query", &SearchFilter::excluded_per_query),
                });
  return members;
}

inline void show_dtypes(py::module_& m) { m.attr("DTYPES") = py::tuple(py::cast(names_of(kDTypes))); }

// STRUCTS: the names of the members of each struct that the module takes.
template <typename... Structs>
void show_structs(py::module_& m, const Members<Structs>&... members) {
  py::dict structs;
  (members.show_names(structs), ...);
  m.attr("STRUCTS") = structs;
}

}  // namespace pyhbt::border
